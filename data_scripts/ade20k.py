"""Fetch or unpack ADE20K, the scene parsing edition, and check it, so that recipes find it in data/ade20k.

python data_scripts/ade20k.py                                          from the network, 1 GB
python data_scripts/ade20k.py --from ~/Downloads/ADEChallengeData2016.zip
python data_scripts/ade20k.py --dest /data/ade                         checks a folder that is unpacked already
"""

import argparse
import sys
from pathlib import Path

from fcnbook.data.ade20k import prepare
from fcnbook.files import InputError


def main() -> int:
    """Prepare the data set; 0, or 1 with sentences that say why not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, help="ADEChallengeData2016.zip or its folder")
    parser.add_argument(
        "--dest", "--root", dest="root", type=Path, default=Path("data/ade20k"), help="folder (data/ade20k)"
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
    print(
        "\nReady. Next:\n  fcnbook run fcn_r50-d8_512x512_80k_ade20k --scale tiny --data-root "
        f"{arguments.root}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
