"""Resolution of image names to files, the same for every layout.

Folders are searched from the likeliest on, and the first of these that exists is the image:

1. the name as it stands, with its folders, in each of the folders in turn;
2. in the same place, a file whose name is another writing of it: backslashes for slashes, upper or lower case of the
   suffix, %20 for a space, composed or decomposed accents, quotation marks around it;
3. in the same place, the only image of that name with another suffix (an archive's .tif made into .jpg);
4. for paths of another machine, and for folders that are not there: the file under the longest end of the path;
5. the bare name, only if one file in all folders has it.

The reader never guesses among several files: a file that another record names exactly, or that several names would
lead to by 4 or 5, is used for no other name. What was found by 2 (except backslashes), 4 or 5 is noted.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from .findings import Findings

# those of `stmine_hf.images`, likeliest first
SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jpe", ".jfif", ".avif", ".jp2", ".j2k",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
MOST_FILES = 2_000_000  # looked through for bare names

OTHER_WRITING = "image found under another writing of its name"
OTHER_FOLDER = "image found in another folder than its name says"
SEVERAL = "image name that matches several files: none used"
_SUFFIX_SET = frozenset(SUFFIXES)


@dataclass(slots=True)
class Wanted:
    """An image to be found.

    Attributes:
        name: as a file has it, with or without folders.
        place: of the record that names it, for findings.
        folders: where to look first, before the folders of all.
        stem: the name lacks its suffix (an id).
        hint: of several files with that stem, the name that decides.
    """

    name: str
    place: str = ""
    folders: tuple[str, ...] = ()
    stem: bool = False
    hint: str = ""


class ImageFiles:
    """The images in some folders, found by name.

    Args:
        folders: where names start, likeliest first. Missing ones are ignored.
        searched: the folders that are looked through, with those in them, for bare names; default: the same.
        stands_for: the name that the only folder has in a set as it is published, so that names may begin with it.
    """

    def __init__(self, folders: Iterable[Path], searched: Iterable[Path] | None = None, stands_for: str = "") -> None:
        self.stands_for = stands_for and f"{stands_for}/"
        self.folders = [str(folder) for folder in dict.fromkeys(folders)]
        self.searched = self.folders if searched is None else [str(folder) for folder in dict.fromkeys(searched)]
        self._listings: dict[str, _Listing] = {}
        self._by_bare_name: dict[str, list[tuple[str, tuple[str, ...]]]] | None = None

    def find_one(self, name: str) -> str | None:
        """The file of a name by itself: the exact one, or the only other writing of it in the same place; of a name
        without a suffix, the only image that is called so."""
        one = Wanted(name)
        path, how = (found, "") if (found := self._exact(one)) else self._inexact(one, set())
        bare = os.path.splitext(tidy(name))[1].lower() not in _SUFFIX_SET
        return path if found or how == OTHER_WRITING or (bare and not how) else None

    def find_near(self, wanted: Sequence[Wanted]) -> list[str | None]:
        """The same, but only where names point to, so that nothing is to be noted."""
        return [self._exact(one) or (self._inexact(one, set())[0] if one.stem else None) for one in wanted]

    def find(self, wanted: Sequence[Wanted], findings: Findings, known: Sequence[str | None] = ()) -> list[str | None]:
        """Paths of images, None where there is none.

        Args:
            wanted: all images of a data set: which file a name means depends on the others.
            findings: counts names that are not exact.
            known: the paths of those that are found already, None for the others.
        """
        paths = [own or self._exact(one) for one, own in zip(wanted, known or [None] * len(wanted), strict=True)]
        taken = {os.path.normpath(path) for path in paths if path is not None}
        loose: dict[tuple, tuple[str | None, str]] = {}
        for number, one in enumerate(wanted):
            if paths[number] is None and one.name:
                key = (one.name, one.folders, one.stem, one.hint)
                if key not in loose:
                    loose[key] = self._inexact(one, taken)
                path, how = loose[key]
                paths[number] = path
                if how:
                    found = "" if path is None else f" -> {os.path.basename(path)}"
                    if how == SEVERAL:
                        findings.note(how, f"{one.place}, {one.name}")
                    elif how == OTHER_WRITING:
                        findings.note(how, f"{one.place}, {one.name}{found}")
        self._find_elsewhere(wanted, paths, taken, findings)
        return paths

    def looked_in(self) -> str:
        return ", ".join(self.folders)

    def _exact(self, one: Wanted) -> str | None:
        names = [one.name] if "\\" not in one.name else [one.name, one.name.replace("\\", "/")]
        for name in names:
            inside, bare = os.path.split(name)
            if not bare or one.stem:
                continue
            for folder in (*one.folders, *self.folders):
                place = os.path.join(folder, inside) if inside else folder
                if bare in self._listing(place).names:
                    return os.path.join(place, bare)
        return None

    def _inexact(self, one: Wanted, taken: set[str]) -> tuple[str | None, str]:
        """The file that another writing or another suffix of a name leads to, and how it was found."""
        name, several = tidy(one.name), ""
        shorter = name.removeprefix(self.stands_for) if self.stands_for else name
        if shorter != name:
            path = self._exact(replace(one, name=shorter))
            if path is not None and os.path.normpath(path) not in taken:
                return path, ""
            if self._folder(self.folders[0], self.stands_for[:-1]) is None:
                name = shorter
        inside, bare = os.path.split(name)
        if not bare:
            return None, ""
        for folder in (*one.folders, *self.folders):
            place = self._folder(folder, inside)
            if place is None:
                continue
            listing = self._listing(place)
            if not one.stem:
                same = [
                    found
                    for found in listing.written(bare)
                    if os.path.normpath(os.path.join(place, found)) not in taken
                ]
                if len(same) == 1:
                    return os.path.join(place, same[0]), OTHER_WRITING
                several = several or SEVERAL * (len(same) > 1)
            stem = bare if one.stem else os.path.splitext(bare)[0]
            same = listing.with_stem(stem)
            if len(same) > 1 and one.hint:
                hint = canonical(os.path.basename(tidy(one.hint)))
                same = [found for found in same if canonical(found) == hint] or same
            if not one.stem:
                same = [found for found in same if os.path.normpath(os.path.join(place, found)) not in taken]
            if len(same) == 1:
                return os.path.join(place, same[0]), ""
            several = several or SEVERAL * (len(same) > 1)
        return None, several

    def _find_elsewhere(
        self, wanted: Sequence[Wanted], paths: list[str | None], taken: set[str], findings: Findings
    ) -> None:
        """Fill in images of paths of another machine and of bare names; matches in a folder, too, take precedence."""
        missing = [number for number, path in enumerate(paths) if path is None and tidy(wanted[number].name)]
        for by_folder in (True, False):
            missing = [number for number in missing if paths[number] is None]
            if not missing:
                return
            taken = taken | {os.path.normpath(path) for path in paths if path is not None}
            found: dict[tuple[str, bool], list[str]] = {}
            claims: dict[str, set[str]] = {}  # path -> names that lead to it
            for number in missing:
                key = (wanted[number].name, wanted[number].stem)
                if key not in found:
                    found[key] = self._elsewhere(tidy(key[0]), key[1], by_folder)
                    if len(found[key]) == 1:
                        claims.setdefault(found[key][0], set()).add(canonical(tidy(key[0])))
            for number in missing:
                one = wanted[number]
                candidates = found[one.name, one.stem]
                if len(candidates) == 1 and os.path.normpath(candidates[0]) in taken:
                    continue
                if len(candidates) == 1 and len(claims[candidates[0]]) == 1:
                    paths[number] = candidates[0]
                    findings.note(OTHER_FOLDER, f"{one.place}, {one.name} -> {self._shown(candidates[0])}")
                elif candidates and not by_folder:
                    findings.note(SEVERAL, f"{one.place}, {one.name}")

    def _elsewhere(self, name: str, stem: bool, by_folder: bool) -> list[str]:
        """All files that a name could mean by the end of its path, or by its last part alone."""
        bare = name.rpartition("/")[2]
        if self._by_bare_name is None:
            self._by_bare_name = self._walk()
        same = self._by_bare_name.get(canonical(f"{bare}." if stem else bare), [])
        if not same and not stem:
            same = self._by_bare_name.get(canonical(f"{os.path.splitext(bare)[0]}."), [])
        folders = [canonical(part) for part in name.split("/")[:-1] if part not in ("", ".", "..")]
        if by_folder:
            agreeing: dict[int, list[str]] = {}
            for path, inside in same:
                own = [canonical(part) for part in path.split(os.sep)[:-1]]
                length = 0
                while length < min(len(folders), len(own)) and folders[-1 - length] == own[-1 - length]:
                    length += 1
                if length and (length == len(folders) or length >= len(inside)):
                    agreeing.setdefault(length, []).append(path)
            return agreeing[max(agreeing)] if agreeing else []
        if folders and not name.startswith("/") and len(same) == 1 and same[0][1]:
            return []  # it lies in another folder than the one that its name says
        return [path for path, _ in same]

    def _walk(self) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
        """All images in the folders that are looked through, by name and by stem with its dot: path, and folders in
        the one that was looked through."""
        found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        seen: set[str] = set()
        number = 0
        for top in self.searched:
            for folder, inner, files in os.walk(top):
                real = os.path.realpath(folder)
                if real in seen:
                    inner.clear()
                    continue
                seen.add(real)
                inner.sort()
                inside = tuple(part for part in os.path.relpath(folder, top).split(os.sep) if part != ".")
                for file in files:
                    stem, suffix = os.path.splitext(file)
                    if suffix.lower() in _SUFFIX_SET and not file.startswith("."):
                        entry = (os.path.join(folder, file), inside)
                        found.setdefault(canonical(file), []).append(entry)
                        found.setdefault(canonical(f"{stem}."), []).append(entry)
                number += len(files)
                if number > MOST_FILES:
                    return {}
        return found

    def _folder(self, start: str, inside: str) -> str | None:
        """A folder in another, each part of its path as it stands or in its only other writing."""
        place = start
        if not inside:
            return place
        if os.path.isabs(inside):
            return inside if os.path.isdir(inside) else None
        for part in inside.split("/"):
            if part in ("", "."):
                continue
            step = os.path.join(place, part)
            if part != ".." and not self._listing(step).is_there:
                same = self._listing(place).folders_written(part)
                if len(same) != 1:
                    return None
                step = os.path.join(place, same[0])
            place = step
        return place

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder)
        return self._listings[folder]

    def _shown(self, path: str) -> str:
        for folder in self.folders:
            if path.startswith(folder + os.sep):
                return path[len(folder) + 1 :]
        return path


class _Listing:
    """The files of a folder, listed once instead of once per name."""

    def __init__(self, folder: str) -> None:
        self.names: set[str] = set()
        self._folders: list[str] = []
        self.is_there = False
        self._written: dict[str, list[str]] | None = None
        self._stems: dict[str, list[str]] | None = None
        try:
            with os.scandir(folder) as entries:
                self.is_there = True
                for entry in entries:
                    if entry.is_file():
                        self.names.add(entry.name)
                    elif entry.is_dir():
                        self._folders.append(entry.name)
        except (OSError, ValueError):  # ValueError: a NUL or half a surrogate pair in the name
            pass

    def written(self, name: str) -> list[str]:
        """The files whose name is that one in another writing."""
        if self._written is None:
            self._written = {}
            for file in sorted(self.names):
                self._written.setdefault(canonical(file), []).append(file)
        return self._written.get(canonical(name), [])

    def with_stem(self, stem: str) -> list[str]:
        """The images of that name, whatever their suffix."""
        if self._stems is None:
            self._stems = {}
            for file in sorted(self.names):
                own, suffix = os.path.splitext(file)
                if suffix.lower() in _SUFFIX_SET:
                    self._stems.setdefault(canonical(f"{own}."), []).append(file)
        return self._stems.get(canonical(f"{stem}."), [])

    def folders_written(self, name: str) -> list[str]:
        return [folder for folder in self._folders if canonical(folder) == canonical(name)]


def tidy(name: str) -> str:
    """A name with slashes, without quotation marks around it, `file://`, a drive's letter or `./` at its beginning."""
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1].strip()
    name = re.sub(r"^(?:file:/{2,3}(?=[A-Za-z]:)|file://)", "", name).replace("\\", "/")
    name = re.sub(r"^[A-Za-z]:/+", "/", name)
    return name.removeprefix("./")


def canonical(name: str) -> str:
    """The normalized form of a file name: decoded, composed, with its suffix in lower case."""
    if not name.isascii() or "%" in name:
        name = unicodedata.normalize("NFC", unquote(name, errors="surrogateescape") if "%" in name else name)
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def stamp_of(path: str) -> tuple[int, int]:
    """Size and time of a file, which change with it."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
