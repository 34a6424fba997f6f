"""Fetch or unpack Cityscapes and check it, so that recipes find it in data/cityscapes.

The archives are gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip of
https://www.cityscapes-dataset.com/downloads/, free with registration. Where they are not at hand, the name and the
password of your account there are asked for; they are sent to that site only and not stored.

python data_scripts/cityscapes.py                                      asks, then downloads 11 GB
python data_scripts/cityscapes.py --from ~/Downloads                   the folder of both archives
python data_scripts/cityscapes.py --dest /data/cityscapes              checks a folder that is unpacked already
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "cityscapes", *sys.argv[1:]]))
