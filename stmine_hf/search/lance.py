"""An index in LanceDB: a table on a disk or in object storage, which filters and searches without being loaded.

    stmine_images      a row for each image or tile: what the shards of an index of files have, the embedding, and the
                       columns that filters compare
    stmine_metadata    path, place, time and columns of a user's table of the images, if there is one
    stmine_states      the manifests of the finished and of the unfinished index, and the version of the first table
                       that the finished one is

Every step adds a version to a table whole or not at all. Readers read the version that the finished manifest names, so
that they find a whole index while a build adds rows, and after one was killed; the next one resumes from the rows that
are there. A build removes versions of over a week, but none since the finished one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ..errors import StmineError
from ..files import LOCK, only_writer, write_problem
from ..inference.batching import batched
from ..inference.skips import first_reasons
from ..outputs import OutputError, require_apart
from . import store
from .build import IndexBuilder, now, versions
from .databases import LANCE
from .filters import PlacesAndTimes, Where, require_answerable
from .lance_filters import filter_columns, number_column, sql_of, text_column, text_literal
from .store import IndexedImage, Manifest

INDEXED_FROM = 50_000  # rows from which on an approximate index is made: below, comparing all is as fast
_PROBES, _REFINE = 20, 4  # lists that are searched at least, and candidates for each hit, compared by their vectors
_FEW = 20_000  # rows that meet a filter: all of them are compared, as candidates of an approximate index miss some
_AT_A_TIME = 5_000  # ids in a condition
_KEPT = timedelta(days=7)  # versions that a reader may have open
_MARGIN = timedelta(days=1)  # for clocks that are put back, and for what is done before versions are removed
_IMAGES, _METADATA, _STATES = "stmine_images", "stmine_metadata", "stmine_states"
_FINISHED, _UNFINISHED = "finished", "unfinished"
_TAG = "stmine_finished"  # of the finished version in tables of before
_SHOWN = ("path", "window", "seen_place", "moment")  # columns that a hit is made of


@dataclass
class State:
    """A finished or unfinished index.

    Attributes:
        manifest: as an index of files has it.
        version: of the table of images.
        next_id: above the ids of its rows.
        columns: of the user's table.
        places: the place of some image is known.
        times: the time of some image is known.
    """

    manifest: Manifest
    version: int = 0
    next_id: int = 0
    columns: list[str] = field(default_factory=list)
    places: bool = False
    times: bool = False


class LanceStore:
    """The tables of an index.

    Args:
        uri: lancedb:// and a folder, or an address of object storage; that one's keys come from the environment.
    """

    def __init__(self, uri: str):
        self.uri, self._address = uri, uri.removeprefix(LANCE)
        if not self._address:
            raise StmineError(f"{uri}: expected a folder or an address such as s3://BUCKET/KEY after {LANCE}")
        self.local = "://" not in self._address
        self.folder = Path(os.path.abspath(self._address)) if self.local else Path(self._address)

    def __str__(self) -> str:
        return self.uri

    @contextmanager
    def writing(self, root: Path | None) -> Iterator[None]:
        """Keep other runs of this machine out of a local database.

        Raises:
            StmineError: another run writes there, the folder holds something else, or it lies among the images.
        """
        with ExitStack() as stack:
            if self.local:
                require_apart(self.folder, [] if root is None else [root])
                if self.folder.exists() and not self.folder.is_dir():
                    raise OutputError(f"{self.folder} is a file: choose another place for the index")
                names = {one.name for one in self.folder.iterdir()} if self.folder.is_dir() else set()
                if names - {LOCK} and not any(name.endswith(".lance") for name in names):
                    raise OutputError(f"{self.folder} is neither empty nor a database: choose another folder")
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(only_writer(self.folder))
            yield

    @contextmanager
    def using(self) -> Iterator[None]:
        """Report what LanceDB raises.

        Raises:
            StmineError: the database cannot be reached, or is damaged.
        """
        try:
            yield
        except StmineError:
            raise
        except (RuntimeError, ValueError, OSError) as error:
            if write_problem(error) is not None:
                raise
            reason = " ".join(str(error).split())
            raise StmineError(
                f"{self.uri} cannot be used ({reason[:300]}). What it has is kept: check that it can be reached, and "
                "run the command again"
            ) from error

    @cached_property
    def database(self) -> Any:
        """The connection."""
        lancedb = _lancedb()
        with self.using():
            return lancedb.connect(str(self.folder) if self.local else self._address)

    def open(self, name: str) -> Any:
        """A table in its newest version; None if there is none."""
        if self.local and not (self.folder / f"{name}.lance").is_dir():
            _lancedb()
            return None
        with self.using():
            try:
                return self.database.open_table(name)
            except ValueError as error:
                if "not found" in str(error):
                    return None
                raise

    def replace(self, name: str, table: pa.Table) -> None:
        """Write a whole table."""
        mode = "create" if self.open(name) is None else "overwrite"  # the second warns of a table that is not there
        with self.using():
            self.database.create_table(name, table, mode=mode)

    def states(self) -> dict[str, State]:
        """The finished and the unfinished index, as far as there are any."""
        table = self.open(_STATES)
        if table is None:
            return {}
        with self.using():
            rows = table.to_arrow().to_pylist()
        try:
            return {row["name"]: _state(json.loads(row["document"])) for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise StmineError(f"{self.uri}: the manifest is damaged or of another version ({error})") from None

    def manifests(self) -> tuple[Manifest | None, Manifest | None]:
        """Those of the finished and of the unfinished index."""
        states = self.states()
        found = [states[name].manifest if name in states else None for name in (_FINISHED, _UNFINISHED)]
        return found[0], found[1]

    def paths(self) -> list[str]:
        """The paths of all rows, also of an unfinished index."""
        table = self.open(_IMAGES)
        if table is None:
            return []
        with self.using():
            found = table.search().select(["path"]).limit(max(1, table.count_rows())).to_arrow()
        return found.column("path").to_pylist()

    def write_states(self, states: dict[str, State | None]) -> None:
        """Write both at once."""
        documents = {name: json.dumps(_document(state)) for name, state in states.items() if state is not None}
        self.replace(_STATES, pa.table({"name": list(documents), "document": list(documents.values())}))

    def remove_old(self, *names: str) -> None:
        """Remove the old versions of tables of which only the newest is read."""
        for table in filter(None, map(self.open, names)):
            with self.using():
                table.optimize(cleanup_older_than=_KEPT)


class LanceRows:
    """The rows of a finished index, which stay in the database.

    Raises:
        StmineError: there is no finished index.
    """

    def __init__(self, lance: LanceStore):
        self._store = lance
        states = lance.states()
        if (state := states.get(_FINISHED)) is None:
            if _UNFINISHED in states:
                raise StmineError(f"the index {lance} was never finished: run `stmine index` again to resume it")
            raise StmineError(f"no index in {lance}: make one with `stmine index IMAGES --out {lance}`")
        self.state = state
        self._table = lance.open(_IMAGES)
        if self._table is None:
            raise StmineError(f"{lance} is damaged (no table {_IMAGES}): index the images again")
        with lance.using():
            self._table.checkout(state.version)
            self._indexed = any(index.columns == ["vector"] for index in self._table.list_indices())

    @property
    def columns(self) -> list[str]:
        """Names of the columns that a filter may compare."""
        return self.state.columns

    def require_known(self, where: Where) -> None:
        """
        Raises:
            StmineError: a filter by something that the index does not have.
        """
        state = self.state
        require_answerable(where, places=state.places, times=state.times, columns=state.columns)

    def nearest(
        self, vector: np.ndarray, k: int, where: Where | None, exact: bool
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The best rows that meet a filter.

        Args:
            vector: (1, D).
            k: how many.
            where: the filter.
            exact: compare every row that meets it.

        Returns:
            Their scores, falling, and what a hit is made of; fewer than k: all that meet the filter.
        """
        if where is not None:
            self.require_known(where)
        condition = None if where is None else sql_of(where, self.state.columns)
        exact = exact or not self._indexed
        if condition is not None and not exact:
            with self._store.using():
                exact = self._table.count_rows(condition) <= _FEW
        scores, rows = self._found(vector, k, condition, exact)
        if len(rows) < k and not exact:  # the lists that were searched had too few
            scores, rows = self._found(vector, k, condition, True)
        return scores, rows

    def _found(
        self, vector: np.ndarray, k: int, condition: str | None, exact: bool
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        with self._store.using():
            query = self._table.search(vector[0]).distance_type("dot").select([*_SHOWN, "_distance"]).limit(k)
            if condition is not None:
                query = query.where(condition, prefilter=True)
            if exact:
                query = query.bypass_vector_index()
            else:
                query = query.minimum_nprobes(_PROBES).maximum_nprobes(0).refine_factor(_REFINE)
            table = query.to_arrow()
        return 1 - table.column("_distance").to_numpy(), _shown(table)

    def paths(self) -> set[str]:
        """The paths of all images."""
        with self._store.using():
            table = self._table.search().select(["path"]).limit(max(1, self.state.manifest.count)).to_arrow()
        return set(table.column("path").to_pylist())

    def of_path(self, path: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """(N,) ids and the rows of an image."""
        with self._store.using():
            query = self._table.search().where(f"path = {text_literal(path)}").select(["id", *_SHOWN])
            table = query.limit(max(1, self.state.manifest.count)).to_arrow().sort_by("id")
        return table.column("id").to_numpy(), _shown(table)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """(N, D) embeddings of rows."""
        return vectors_of(self._store, self._table, ids)


class LanceBuilder(IndexBuilder):
    """One run that creates or updates an index in LanceDB. Arguments as of `IndexBuilder`, but for the first."""

    def __init__(self, lance: LanceStore, *arguments: Any, **options: Any):
        self._lance = lance
        self._states = lance.states()
        self._resumed = _UNFINISHED in self._states  # a killed run, which may have been entering the user's table
        self._table = lance.open(_IMAGES)
        super().__init__(cast("Any", lance), *arguments, **options)

    @property
    def name(self) -> str:
        return self._lance.uri

    def _read_manifests(self) -> tuple[Manifest | None, Manifest | None]:
        finished, unfinished = self._lance.manifests()
        if self._table is not None and finished is None and unfinished is None:
            raise OutputError(f"{self.name} has a table {_IMAGES} of something else: choose another place")
        return finished, unfinished

    def _read_rows(self) -> tuple[pa.Table, int]:
        self._ids = np.zeros(0, dtype=np.int64)
        rows = store.no_rows()
        if self._table is not None:
            with self._lance.using():
                count = self._table.count_rows()
                query = self._table.search().select(["id", *rows.column_names]).limit(max(1, count))
                table = query.to_arrow().sort_by("id")
                self._known_version = self._table.version
            self._ids = table.column("id").to_numpy()
            rows = table.select(rows.column_names).cast(rows.schema)
        self._next_id = int(self._ids[-1]) + 1 if len(self._ids) else 0
        finished = self._states.get(_FINISHED)
        self._next_id = max([self._next_id, *(state.next_id for state in self._states.values())])
        return rows, 0 if finished is None else int(np.searchsorted(self._ids, finished.next_id))

    def _save(self) -> None:
        if not self._buffer:
            return
        rows, vectors = zip(*self._buffer, strict=True)
        self._buffer = []  # also if it fails: a second try might add rows twice
        state = self._state()
        self._lance.write_states({_FINISHED: self._states.get(_FINISHED), _UNFINISHED: state})
        self._states[_UNFINISHED] = state
        self._append(list(rows), np.stack(vectors))
        self._published = None

    def _state(self) -> State:
        finished = self._states.get(_FINISHED)
        return State(self._manifest, next_id=self._next_id, columns=[] if finished is None else finished.columns)

    def _append(self, rows: list[IndexedImage], vectors: np.ndarray) -> None:
        table = store.rows_table(rows)
        facts = PlacesAndTimes(table.column("place"), table.column("time"), {})
        ids = np.arange(self._next_id, self._next_id + len(rows))
        own = {"id": pa.array(ids), **{name: table.column(name) for name in table.column_names}}
        own |= {"seen_place": table.column("place"), **filter_columns(facts)}
        own["vector"] = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel()), vectors.shape[1]
        )
        added = pa.table(own)
        with self._lance.using():
            if self._table is None:
                self._table = self._lance.database.create_table(_IMAGES, added)
            else:
                self._require_alone()
                for field_ in self._table.schema:
                    if field_.name not in added.column_names:  # of the user's table
                        added = added.append_column(field_.name, pa.nulls(len(added), field_.type))
                # Cast: tables of earlier versions have windows as lists of a fixed size.
                self._table.add(added.select(self._table.schema.names).cast(self._table.schema))
            self._known_version = self._table.version
        self._ids = np.concatenate([self._ids, ids])
        self._next_id += len(rows)

    def _require_alone(self) -> None:
        """
        Raises:
            StmineError: the table has changed since this run wrote it.
        """
        found = self._lance.open(_IMAGES)
        if found is None or found.version != self._known_version:
            raise StmineError(
                f"{self.name} has changed during this run: another one is writing it. Wait until it has ended, and "
                "run the command again"
            )

    def _publish(self, progress: bool = False) -> None:
        finished = self._states.get(_FINISHED)
        if self._published and finished is not None and self._live.all() and self._metadata is None:
            moved = replace(finished.manifest, images=self._manifest.images, model=self._manifest.model)
            if moved != finished.manifest:
                self._lance.write_states({_FINISHED: replace(finished, manifest=moved)})
            return
        live = np.concatenate([self._live, np.ones(len(self._ids) - len(self._live), dtype=bool)])
        if self._table is None or not live.any():
            raise StmineError(
                f"not one image of {self._root} could be read ({first_reasons(self._report.skipped)}): nothing was "
                "changed"
            )
        with self._lance.using():
            self._require_alone()
            self._lance.write_states({_FINISHED: finished, _UNFINISHED: self._state()})
            self._delete(self._ids[~live])
            self._ids = self._ids[live]
            state = self._enter_facts(None if self._resumed else finished)
            self._index(state)
            state.version, state.next_id = self._table.version, self._next_id
        manifest = self._manifest
        manifest.count, manifest.updated, manifest.versions = len(self._ids), now(), versions("lancedb")
        self._lance.write_states({_FINISHED: state})
        self._lance.remove_old(_STATES, _METADATA)

    def _delete(self, ids: np.ndarray) -> None:
        for some in batched(ids.tolist(), _AT_A_TIME):
            self._table.delete(f"id IN ({', '.join(map(str, some))})")

    def _enter_facts(self, finished: State | None) -> State:
        """Bring the columns for filters up to date; the state that this gives."""
        table = self._table.search().select(["id", "path", "place", "time"]).limit(len(self._ids)).to_arrow()
        table = table.sort_by("id")
        known = self._lance.open(_METADATA)
        if self._metadata is not None:
            paths = list(dict.fromkeys(table.column("path").to_pylist()))
            metadata, self._report.findings = self._metadata.rows(paths, self._root)
            self._lance.replace(_METADATA, metadata)
        else:
            metadata = None if known is None else known.to_arrow()
        rows = store.with_metadata(table, metadata)
        facts = store.facts_of(rows, metadata)
        if metadata is not None:
            known_to = 0 if self._metadata is not None or finished is None else finished.next_id
            self._write_facts(rows, facts, known_to)
        return State(
            self._manifest,
            columns=list(facts.columns),
            places=not bool(np.isnan(facts.boxes).all()),
            times=not bool(np.isnat(facts.moments).all()),
        )

    def _write_facts(self, rows: pa.Table, facts: PlacesAndTimes, known_to: int) -> None:
        """Write the columns that filters compare.

        Args:
            rows: all rows.
            facts: of them.
            known_to: the id from which on rows lack them.
        """
        own = filter_columns(facts)
        before = [name for name in self._table.schema.names if name[:1] == "c" and name[1:2].isdigit()]
        if gone := [name for name in before if name not in own]:
            self._table.drop_columns(gone)
        kinds = {text_column(n): pa.string() for n in range(len(facts.columns))}
        kinds |= {number_column(n): pa.float64() for n in range(len(facts.columns))}
        if missing := [pa.field(name, kind) for name, kind in kinds.items() if name not in before]:
            self._table.add_columns(pa.schema(missing))
        updates = pa.table({"id": rows.column("id"), "seen_place": rows.column("place"), **own})
        updates = updates.filter(pa.array(self._ids >= known_to))
        if len(updates):
            self._table.merge_insert("id").when_matched_update_all().execute(updates)

    def _index(self, state: State) -> None:
        """Join small files, and make or extend what searches and filters look up."""
        from lancedb.index import BTree, HnswSq

        if _TAG in self._table.tags.list():  # it would make the removal of its version an error
            self._table.tags.delete(_TAG)
        self._table.optimize(cleanup_older_than=self._kept())
        indexed = {column for index in self._table.list_indices() for column in index.columns}
        if len(self._ids) < INDEXED_FROM:
            return
        wanted = ["id", "path", "west", "south", "east", "north", "moment"]
        wanted += [make(n) for n in range(len(state.columns)) for make in (text_column, number_column)]
        for name in wanted:
            if name not in indexed:
                self._table.create_index(name, config=BTree())
        if "vector" not in indexed:
            self._table.create_index("vector", config=HnswSq(distance_type="dot"))

    def _kept(self) -> timedelta:
        """The age from which on versions are removed: that of the finished one is below, for its readers."""
        finished = self._states.get(_FINISHED)
        made = [
            one["timestamp"] for one in self._table.list_versions() if finished and one["version"] == finished.version
        ]
        return max([_KEPT, *(datetime.now() - moment + _MARGIN for moment in made)])

    def _vector(self, row: int) -> np.ndarray:
        return vectors_of(self._lance, self._table, self._ids[row : row + 1])[0]

    def _write_skipped(self) -> None:
        """The report has the list; a database has no place for it."""


def vectors_of(lance: LanceStore, table: Any, ids: np.ndarray) -> np.ndarray:
    """(N, D) embeddings of rows, in the order of their ids given."""
    found: dict[int, np.ndarray] = {}
    for some in batched(ids.tolist(), _AT_A_TIME):
        with lance.using():
            condition = f"id IN ({', '.join(map(str, some))})"
            part = table.search().where(condition).select(["id", "vector"]).limit(len(some)).to_arrow()
        stacked = part.column("vector").combine_chunks()
        numbers = np.asarray(stacked.flatten()).reshape(len(part), -1)
        found |= zip(part.column("id").to_pylist(), numbers, strict=True)
    return np.stack([found[number] for number in ids.tolist()])


def _shown(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as those of an index of files."""
    moments = table.column("moment").cast(pa.timestamp("ms", tz="UTC"))
    shown = pa.table({"path": table.column("path"), "window": table.column("window"), "time": moments})
    return shown.append_column("place", table.column("seen_place")).to_pylist()


def _state(document: dict[str, Any]) -> State:
    return State(**{**document, "manifest": store.manifest_of(document["manifest"])})


def _document(state: State) -> dict[str, Any]:
    return {**asdict(state), "manifest": store.content_of(state.manifest)}


def _lancedb() -> Any:
    """
    Raises:
        StmineError: LanceDB is not installed.
    """
    try:
        import lancedb
    except ImportError:
        raise StmineError("an index in LanceDB needs it: pip install 'stmine-hf[lance]'") from None
    return lancedb
