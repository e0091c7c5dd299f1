"""Progress: the caller's function, or a bar of tqdm."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Union

if TYPE_CHECKING:
    from ._lewis import Progress

ProgressOption = Union[None, bool, Callable[["Progress"], object]]

_log = logging.getLogger("lewis")


def notice(warning: bool, text: str) -> None:
    """Hands a line for people to the logger ``lewis``."""
    _log.log(logging.WARNING if warning else logging.INFO, text)


class _Bars:
    """One bar per kind of work, as "calibrating math" and "merging"."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._what: Optional[str] = None

    def __call__(self, p: Progress) -> None:
        if self._what != p.what:
            self.close()
            unit = {"bytes": "B"}.get(p.unit, " " + p.unit)
            self._bar = self._tqdm(
                total=p.total, desc=p.what, unit=unit, unit_scale=p.unit in ("bytes", "tokens")
            )
            self._what = p.what
        self._bar.total = p.total
        self._bar.update(p.done - self._bar.n)
        if p.done == p.total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._what = None, None


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bars(wanted: bool) -> Optional[_Bars]:
    if not wanted and not _in_notebook() and not (sys.stderr and sys.stderr.isatty()):
        return None
    try:
        if _in_notebook():
            from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
        else:
            from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        if wanted:
            _log.warning("progress=True shows bars with the package tqdm, which is not installed")
        return None
    return _Bars(tqdm)


@contextlib.contextmanager
def reporter(option: ProgressOption) -> Iterator[Optional[Callable[[Progress], object]]]:
    """The function that is called with each :class:`Progress`, or ``None``."""
    if option is None or option is True:
        bars = _bars(wanted=option is True)
        try:
            yield bars
        finally:
            if bars is not None:
                bars.close()
    elif option is False:
        yield None
    elif callable(option):
        yield option
    else:
        raise TypeError(
            f"progress is {option!r}, expected a function, True (a bar), False or None "
            "(a bar in notebooks and terminals)"
        )
