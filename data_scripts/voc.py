"""Fetch or unpack PASCAL VOC 2012 and SBD, convert SBD's masks, and check all splits, for voc12aug and voc11.

python data_scripts/voc.py                                    from the network, 3.4 GB
python data_scripts/voc.py --from ~/Downloads/VOCtrainval_11-May-2012.tar ~/Downloads/benchmark.tgz
python data_scripts/voc.py --dest /data/VOCdevkit             converts in place what is unpacked already
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.voc import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with sentences that say why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="+", help="the archives, or a folder where they lie"
    )
    parser.add_argument(
        "--dest",
        "--root",
        dest="root",
        type=Path,
        default=Path("data/voc12aug"),
        help="folder (data/voc12aug)",
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.root)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    if any(report.problems for report in reports):
        print("\nNot as published; see above.", file=sys.stderr)
        return 1
    print("\nReady. Next, in the protocol of most papers, or in that of the FCN paper:")
    for recipe in ("fcn_r50-d8_512x512_20k_voc12aug", "fcn32s_vgg16_voc11"):
        print(f"  fcnbook run {recipe} --scale tiny --data-root {arguments.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
