"""Fetch or unpack Cityscapes and check it, so that recipes find it in data/cityscapes.

The archives are gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip of
https://www.cityscapes-dataset.com/downloads/, free with registration. Where they are not at hand, the name and the
password of your account there are asked for; they are sent to that site only and not stored.

python data_scripts/cityscapes.py                                      asks, then downloads 11 GB
python data_scripts/cityscapes.py --from ~/Downloads                   the folder of both archives
python data_scripts/cityscapes.py --dest /data/cityscapes              checks a folder that is unpacked already
"""

import argparse
import getpass
import sys
from pathlib import Path

from fcnbook.data.cityscapes import prepare
from fcnbook.files import InputError


def ask() -> tuple[str, str]:
    """Name and password, typed by the user."""
    print("Cityscapes is given to registered users only: https://www.cityscapes-dataset.com/register/")
    return input("User name or email address: "), getpass.getpass("Password (not shown, not stored): ")


def main() -> int:
    """Prepare the data set; 0, or 1 with sentences that say why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, nargs="+", help="the archives, or their folder")
    parser.add_argument(
        "--dest", "--root", dest="root", type=Path, default=Path("data/cityscapes"), help="(data/cityscapes)"
    )
    arguments = parser.parse_args()
    try:
        reports = prepare(arguments.source, arguments.root, ask if sys.stdin.isatty() else None)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n")
    if any(report.problems for report in reports):
        print("\nNot as published; see above.", file=sys.stderr)
        return 1
    print(
        "\nReady. Next:\n  fcnbook run fcn_r50-d8_512x1024_40k_cityscapes --scale tiny --data-root "
        f"{arguments.root}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
