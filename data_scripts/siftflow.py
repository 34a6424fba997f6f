"""Fetch SIFT Flow, convert its labels to PNG and check it, so that recipes find it in data/siftflow.

python data_scripts/siftflow.py                                      from the network, 140 MB
python data_scripts/siftflow.py --from ~/SiftFlowDataset.zip         from the archive
python data_scripts/siftflow.py --dest ~/siftflow                    a folder that holds Images/, prepared in place
"""

import sys

from fcnbook.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", "siftflow", *sys.argv[1:]]))
