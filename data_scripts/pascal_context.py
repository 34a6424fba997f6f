"""Fetch or unpack VOC 2010 and the labels of Pascal Context, make the masks, and check both splits.

python data_scripts/pascal_context.py                             from the network, 1.3 GB and the labels
python data_scripts/pascal_context.py --from ~/Downloads          VOC's archive, trainval_merged.json or trainval.tar.gz
python data_scripts/pascal_context.py --dest /data/VOCdevkit      makes the masks in place
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.pascal_context import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with sentences that say why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="+", help="the files, or a folder where they lie"
    )
    parser.add_argument(
        "--dest",
        "--root",
        dest="root",
        type=Path,
        default=Path("data/pascal_context"),
        help="folder (data/pascal_context)",
    )
    parser.add_argument(
        "--route",
        choices=["json", "mat"],
        help="labels to make the masks from: 4996 and 5104 pictures, or 4998 and 5105; by default what is there, "
        "json first",
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.root, route=arguments.route)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    if any(report.problems for report in reports):
        print("\nNot as published; see above.", file=sys.stderr)
        return 1
    print("\nReady. Next, with background as a class, or with background void:")
    for classes in ("", "_59"):
        recipe = f"fcn_r101-d8_480x480_40k_pascal_context{classes}"
        print(f"  fcnbook run {recipe} --scale tiny --data-root {arguments.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
