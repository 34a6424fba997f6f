"""Variables of MATLAB files (version 5; SBD, Pascal Context and others store labels so), with errors for readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcnbook.files import InputError


def read_matlab(path: Path, variable: str) -> np.ndarray:
    """One variable of a .mat file, as scipy gives it: at least two axes, structures as arrays with named fields.

    Raises:
        InputError: the file is missing, damaged, of version 7.3 (HDF5), or has no such variable.
    """
    from scipy.io import loadmat, whosmat

    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        found = loadmat(path, variable_names=[variable])
        if variable not in found:
            names = ", ".join(name for name, _, _ in whosmat(path)) or "nothing"
            raise InputError(
                f"{path} has no variable {variable} (it holds {names}). Is it of another data set?"
            )
        return found[variable]
    except InputError:
        raise
    except NotImplementedError:
        raise InputError(
            f"{path} is of MATLAB 7.3, which is HDF5; a file of version 5 was expected."
        ) from None
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); fetch it again.") from error
