"""Fetch NYUDv2, convert its labels to PNG and check it, so that recipes find it in data/nyud.

python data_scripts/nyud.py                                          from the network, about 900 MB
python data_scripts/nyud.py --from ~/nyud.tar.gz                     from the package of the FCN authors, or Gupta's
python data_scripts/nyud.py --from ~/nyu_depth_v2_labeled.mat        from the original file; needs h5py, gives no HHA
python data_scripts/nyud.py --dest ~/nyud                            a folder that holds data/images, prepared in place
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "nyud", *sys.argv[1:]]))
