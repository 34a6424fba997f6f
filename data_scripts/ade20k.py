"""Fetch or unpack ADE20K, the scene parsing edition, and check it, so that recipes find it in data/ade20k.

python data_scripts/ade20k.py                                          from the network, 1 GB
python data_scripts/ade20k.py --from ~/Downloads/ADEChallengeData2016.zip
python data_scripts/ade20k.py --dest /data/ade                         checks a folder that is unpacked already
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "ade20k", *sys.argv[1:]]))
