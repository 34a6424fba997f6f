"""Fetch or unpack PASCAL VOC 2012 and SBD, convert SBD's masks, and check all splits, for voc12aug and voc11.

python data_scripts/voc.py                                    from the network, 3.4 GB
python data_scripts/voc.py --from ~/Downloads/VOCtrainval_11-May-2012.tar ~/Downloads/benchmark.tgz
python data_scripts/voc.py --dest /data/VOCdevkit             converts in place what is unpacked already
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "voc12aug", *sys.argv[1:]]))
