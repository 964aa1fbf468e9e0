"""--show: a window that follows, and clear words where there is none to have."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from PIL import Image

from stmine_hf.detect.screen import Screen
from stmine_hf.errors import StmineError


class NoDisplay(Exception):
    pass


@pytest.fixture
def tk(monkeypatch):
    """A Tk without a screen behind it; its window is `tk.window`."""
    window = MagicMock()
    window.winfo_screenwidth.return_value, window.winfo_screenheight.return_value = 1000, 800
    fake = SimpleNamespace(TclError=NoDisplay, Tk=lambda: window, Label=MagicMock(), window=window)
    monkeypatch.setitem(sys.modules, "tkinter", fake)
    shown = []
    monkeypatch.setattr(
        "PIL.ImageTk.PhotoImage", lambda image, master: shown.append(image.size) or SimpleNamespace(size=image.size)
    )
    fake.shown = shown
    return fake


def test_images_are_shown_as_large_as_fits(tk):
    screen = Screen("title")
    for size in ((4000, 1000), (200, 100), (10, 5000)):
        assert screen.show(Image.new("RGB", size)) is True
    assert tk.shown == [(900, 225), (400, 200), (1, 680)]
    tk.window.title.assert_called_once_with("title")


def test_closing_the_window_ends_the_showing(tk):
    screen = Screen("title")
    tk.window.update.side_effect = screen.close  # as the window's own button does
    assert screen.show(Image.new("RGB", (20, 10))) is False
    assert screen.show(Image.new("RGB", (20, 10))) is False
    screen.close()
    tk.window.destroy.assert_called_once()


def test_without_a_screen(tk):
    def no_window():
        raise NoDisplay("no display name and no $DISPLAY environment variable")

    tk.Tk = no_window
    with pytest.raises(StmineError, match=r"--show needs a screen, but there is none here \(no display name"):
        Screen("title")


def test_without_tk(monkeypatch):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(StmineError, match="--show needs Tk, which this Python lacks"):
        Screen("title")
