"""Fetch or copy CamVid and check it, so that recipes find it in data/camvid.

python data_scripts/camvid.py                      from the network, 190 MB
python data_scripts/camvid.py --from ~/CamVid      from an unpacked copy
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "camvid", *sys.argv[1:]]))
