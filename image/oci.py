#!/usr/bin/env python3
"""Makes an OCI image archive from files, without a registry, a daemon or root; the same files give the same bytes.

image/oci.py OUT.tar --name REGISTRY/NAME:TAG --file SOURCE:PATH... --entrypoint WORD...
"""

import argparse
import gzip
import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

NOBODY = "65532:65532"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Entry:
    """A file, a folder (no content) or a symbolic link of the image; all belong to root."""

    path: str
    content: bytes | None = None
    mode: int = 0o644
    link: str | None = None


@dataclass
class Image:
    """What a container is started with, and the layers of its files, lowest first."""

    name: str
    entrypoint: list[str]
    layers: list[list[Entry]]
    user: str = NOBODY
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    compress: bool = False


def layer(entries: list[Entry]) -> bytes:
    """The tar of a layer: sorted, with the folders above each file, numeric owners and no time."""
    whole: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.path.lstrip("/"))
        for parent in list(path.parents)[:-1]:
            whole.setdefault(str(parent), Entry(str(parent), mode=0o755))
        whole[str(path)] = entry
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(whole.items()):
            info = tarfile.TarInfo(path)
            info.mode = entry.mode
            if entry.link is not None:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
                tar.addfile(info)
            elif entry.content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(entry.content)
                tar.addfile(info, io.BytesIO(entry.content))
    return data.getvalue()


def write(image: Image, out: Path) -> str:
    """Writes the archive and returns the digest of its manifest."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    blobs: dict[str, bytes] = {}

    def put(media_type: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if image.compress else "")
    descriptors, diff_ids = [], []
    for entries in image.layers:
        plain = layer(entries)
        diff_ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
        descriptors.append(put(kind, gzip.compress(plain, compresslevel=6, mtime=0) if image.compress else plain))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": image.user,
            "WorkingDir": "/",
            "Entrypoint": image.entrypoint,
            "Env": [f"{key}={value}" for key, value in sorted(image.env.items())],
            "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = put(
        manifest_type,
        _json(
            {
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": put("application/vnd.oci.image.config.v1+json", _json(config)),
                "layers": descriptors,
            }
        ),
    )
    annotations = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**manifest, "platform": {"architecture": architecture, "os": "linux"}, "annotations": annotations}
        ],
    }
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}
    out.write_bytes(layer([Entry(path, content) for path, content in files.items()]))
    return str(manifest["digest"])


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", required=True, help="full reference, with a registry and a tag other than latest")
    parser.add_argument("--file", action="append", default=[], metavar="SOURCE:PATH", help="a file; keeps its x bit")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--user", default=NOBODY)
    parser.add_argument("--entrypoint", nargs="+", required=True)
    asked = parser.parse_args()
    entries = [Entry("tmp", mode=0o1777)]
    for source, path in (pair.split(":", 1) for pair in asked.file):
        executable = Path(source).stat().st_mode & 0o111
        entries.append(Entry(path, Path(source).read_bytes(), 0o755 if executable else 0o644))
    env = dict(pair.split("=", 1) for pair in asked.env)
    image = Image(asked.name, asked.entrypoint, [entries], user=asked.user, env=env)
    print(asked.name, write(image, asked.out))


if __name__ == "__main__":
    main()
