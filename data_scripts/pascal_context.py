"""Fetch or unpack VOC 2010 and the labels of Pascal Context, make the masks, and check both splits.

python data_scripts/pascal_context.py                             from the network, 1.3 GB and the labels
python data_scripts/pascal_context.py --from ~/Downloads          VOC's archive, trainval_merged.json or trainval.tar.gz
python data_scripts/pascal_context.py --dest /data/VOCdevkit      makes the masks in place
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "pascal_context", *sys.argv[1:]]))
