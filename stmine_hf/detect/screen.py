"""A window that shows annotated images."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ..errors import StmineError


class Screen:
    """A window of Tk, Python's own toolkit; images are scaled to fit.

    Raises:
        StmineError: there is no screen here, or this Python was built without Tk.
    """

    def __init__(self, title: str):
        try:
            import tkinter
        except ImportError:
            raise StmineError(
                "--show needs Tk, which this Python lacks: install python3-tk, or look at the files written instead."
            ) from None
        try:
            self._window: Any = tkinter.Tk()
        except tkinter.TclError as error:
            raise StmineError(
                f"--show needs a screen, but there is none here ({error}): look at the files written instead."
            ) from None
        self._window.title(title)
        self._window.protocol("WM_DELETE_WINDOW", self.close)
        self._label = tkinter.Label(self._window)
        self._label.pack()

    def show(self, image: Image.Image) -> bool:
        """Show the next image; False once the window was closed."""
        if self._window is None:
            return False
        from PIL import ImageTk

        room = (int(0.9 * self._window.winfo_screenwidth()), int(0.85 * self._window.winfo_screenheight()))
        scale = min(room[0] / image.width, room[1] / image.height, 2.0)
        size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
        self._image = ImageTk.PhotoImage(image.resize(size), master=self._window)  # Tk keeps no reference itself
        self._label.configure(image=self._image)
        self._window.update()  # may close the window
        return self._window is not None

    def close(self) -> None:
        if self._window is not None:
            self._window.destroy()
            self._window = None
