"""`stmine serve`: search, classification and detection as an HTTP service."""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StmineError
from ..methods import MTTV, SAT
from ..printing import say
from .terminal import DeviceOption, hush_libraries, warn

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine serve --index my.index

  stmine serve --index my.index --classify-model mttv-lite-weibo --detect-model sat-coco-small --port 8080

  stmine search "a bridge over a wide river" --server http://127.0.0.1:8000

Addresses: POST /embed /search /classify /detect, GET /health /ready /models /metrics /openapi.json."""
)
def serve(
    index: Annotated[
        str | None, typer.Option(help="Index to search, made by `stmine index`; its model also embeds.")
    ] = None,
    classify_model: Annotated[
        str | None, typer.Option(help="Model that classifies posts: folder, Hub id, or shipped checkpoint.")
    ] = None,
    detect_model: Annotated[
        str | None, typer.Option(help="Model that finds objects: folder, Hub id, or shipped checkpoint.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other computers connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="STMINE_API_KEY",
            show_envvar=True,
            help="Key that requests must send. Set the environment variable: other users can see command lines.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most requests per batch of a model.")] = 8,
    wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that the first request of a batch waits for others.")
    ] = 4,
    queue: Annotated[int, typer.Option(min=1, help="Inputs that may wait for a model; others get status 503.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request; after these, status 504.")] = 30,
    max_bytes: Annotated[int, typer.Option(min=1000, help="Largest request, in bytes.")] = 20 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, in pixels.")] = 40_000_000,
    max_text: Annotated[int, typer.Option(min=1, help="Longest text, in characters.")] = 10_000,
    device: DeviceOption = None,
) -> None:
    """Serve search, classification and detection over HTTP, as JSON or multipart, until SIGTERM or Ctrl-C.

    Only the index and the models that are given are served. Models are loaded once; requests that arrive together are
    run as one batch.
    """
    if index is None and classify_model is None and detect_model is None:
        raise typer.BadParameter("expected what to serve: --index, --classify-model, --detect-model or several")
    if api_key is not None and (not api_key.strip() or not api_key.isascii()):
        raise typer.BadParameter("--api-key: expected ASCII characters, found an empty or other key")
    if api_key is None and not _is_loopback(host):
        warn(f"everyone who reaches {host} can use this service: set STMINE_API_KEY to a key of your own.")
    from ..loading import require_model

    require_model(*filter(None, [classify_model]), method=MTTV)
    require_model(*filter(None, [detect_model]), method=SAT)
    from ..search.databases import is_uri

    if index is not None and not is_uri(index) and not Path(index).is_dir():
        raise StmineError(f"{index}: expected an index made by `stmine index`, found no folder.")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise StmineError(f'serving needs {", ".join(missing)}: pip install "stmine-hf[serve]"')
    hush_libraries()
    from ..serve.limits import Limits
    from ..serve.server import serve as serve_until_stopped
    from ..serve.service import Models, Service

    limits = Limits(
        request_bytes=max_bytes, held_bytes=max(max_bytes, Limits.held_bytes), pixels=max_pixels, text=max_text,
        queue=queue, seconds=timeout, batch=batch_size, wait=wait_ms / 1000,
    )  # fmt: skip
    service = Service(Models(index, classify_model, detect_model), limits=limits, device=device)
    serve_until_stopped(service, host=host, port=port, api_key=api_key)
    say("The service has stopped.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
