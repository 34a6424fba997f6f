"""Fetch NYUDv2, convert its labels to PNG and check it, so that recipes find it in data/nyud.

python data_scripts/nyud.py                                          from the network, about 900 MB
python data_scripts/nyud.py --from ~/nyud.tar.gz                     from the package of the FCN authors, or Gupta's
python data_scripts/nyud.py --from ~/nyu_depth_v2_labeled.mat        from the original file; needs h5py, gives no HHA
python data_scripts/nyud.py --dest ~/nyud                            a folder that holds data/images, prepared in place
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.nyud import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with a sentence that says why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="+", help="one or more of the published files"
    )
    parser.add_argument(
        "--dest", "--root", type=Path, default=Path("data/nyud"), help="folder to fill (data/nyud)"
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.dest)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    print(f"\nReady. Next:\n  fcnbook run fcn32s_vgg16_nyud --scale tiny --data-root {arguments.dest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
