"""Image tags follow content, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image import image
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs
from hypothesis import given
from hypothesis import strategies as st

SOURCES = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=16)), max_size=5)


@given(SOURCES, SOURCES)
def test_two_contents_have_one_tag_only_if_they_are_equal(one: list[Any], other: list[Any]) -> None:
    assert (image.content_tag(one) == image.content_tag(other)) == (one == other)


@given(st.text(max_size=6), st.binary(max_size=6), st.binary(min_size=1, max_size=6))
def test_bytes_that_move_between_two_files_change_the_tag(name: str, head: bytes, tail: bytes) -> None:
    assert image.content_tag([(name, head + tail), ("b", b"")]) != image.content_tag([(name, head), ("b", tail)])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments for one image whose base and compiler are fixed, and a registry that is a dict."""
    folder = tmp_path / "images" / "edge"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "README.md").write_text("what it is\n")
    monkeypatch.setattr(image, "_output", lambda programs, argv, folder=None: b"fixed")
    monkeypatch.setattr(image, "_docker_has", lambda programs, reference: True)
    registry: dict[str, str] = {}
    monkeypatch.setattr(image, "registry_digest", lambda programs, repository, tag: registry.get(tag))
    return {
        "registry": registry,
        "folder": folder,
        "params": {
            "images": [
                {
                    "name": "edge",
                    "context": "images/edge",
                    "base": "trixie",
                    "further_bases": {},
                    "arguments": {},
                    "artifacts": [],
                }
            ],
            "root": str(tmp_path),
            "repository": "localhost:5001/lambda/",
            "base_images": {"trixie": "debian:trixie-slim"},
            "cache_dir": str(tmp_path / "cache"),
            "output": str(tmp_path / "images.json"),
            "refresh": False,
        },
    }


def _run(table: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    return image.run(table["params"], check_mode=check_mode, diff=True, progress=lambda line: None)


def test_check_mode_says_what_would_be_built_and_writes_nothing(table: dict[str, Any]) -> None:
    result = _run(table, check_mode=True)
    assert result["changed"] and result["built"] == ["edge"]
    assert not Path(table["params"]["output"]).exists()


def test_an_image_that_the_registry_has_is_not_built_and_the_table_is_written_once(table: dict[str, Any]) -> None:
    tag = _run(table, check_mode=True)["images"]["edge"]["tag"]
    table["registry"][tag] = "sha256:1"
    first = _run(table)
    assert first["changed"] and first["built"] == []
    written = json.loads(Path(table["params"]["output"]).read_text())
    assert written == {"edge": {"repository": "localhost:5001/lambda/edge", "tag": tag, "digest": "sha256:1"}}
    assert not _run(table)["changed"]


def test_the_tag_follows_the_sources_and_the_base_but_not_the_readme_and_examples(table: dict[str, Any]) -> None:
    def tag() -> str:
        return _run(table, check_mode=True)["images"]["edge"]["tag"]

    before = tag()
    (table["folder"] / "README.md").write_text("something else\n")
    (table["folder"] / "examples").mkdir()
    (table["folder"] / "examples" / "floor.rs").write_text("fn main() {}\n")
    assert tag() == before
    (table["folder"] / "script").write_text("#!/bin/sh\n")
    with_script = tag()
    assert with_script != before
    (table["folder"] / "script").chmod(0o755)
    assert tag() != with_script


def test_a_missing_dockerfile_and_an_unknown_base_are_named(table: dict[str, Any]) -> None:
    table["params"]["images"][0]["base"] = "sid"
    with pytest.raises(PlatformError, match=r"unknown base\. Found: sid\. Expected: one of trixie"):
        _run(table)
    (table["folder"] / "Dockerfile").unlink()
    with pytest.raises(PlatformError, match="edge has no Dockerfile"):
        _run(table)


def test_every_base_changes_the_tag_and_is_a_build_argument(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = {"debian:trixie-slim": b"sha256:1", "rust:1.67-slim": b"sha256:2"}
    monkeypatch.setattr(image, "_output", lambda programs, argv, folder=None: identities[argv[-1]])
    table["params"]["base_images"]["rust"] = "rust:1.67-slim"

    def tag() -> str:
        return _run(table, check_mode=True)["images"]["edge"]["tag"]

    entry = table["params"]["images"][0]
    tags = [tag()]
    entry["base"] = "rust"
    tags.append(tag())
    entry["further_bases"] = {"CRATES": "trixie"}
    tags.append(tag())
    entry["arguments"] = {"MAJOR": 17}
    tags.append(tag())
    entry["arguments"] = {"MAJOR": 18}
    tags.append(tag())
    identities["debian:trixie-slim"] = b"sha256:3"
    tags.append(tag())
    identities["rust:1.67-slim"] = b"sha256:4"
    tags.append(tag())
    assert len(set(tags)) == len(tags)

    asked: list[list[str]] = []
    monkeypatch.setattr(image, "_docker", lambda arguments, _image: asked.append(arguments))
    built = image._Image(entry, table["params"], Programs(), pull=True)
    cache = Path(table["params"]["cache_dir"])
    image._build(built, cache, image._GoPrograms([built], cache))
    (build,) = asked
    given = [build[place + 1] for place, word in enumerate(build) if word == "--build-arg"]
    assert given == ["BASE=rust:1.67-slim", "CRATES=debian:trixie-slim", "MAJOR=18"]


def test_a_base_that_docker_lacks_is_pulled_but_not_in_check_mode(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(_programs: Programs, argv: list[str], *_rest: Any, **_options: Any) -> Any:
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 1, "", "Error response from daemon: no route to registry")

    monkeypatch.setattr(image, "_docker_has", lambda programs, reference: False)
    monkeypatch.setattr(Programs, "run", run)
    assert _run(table, check_mode=True)["built"] == ["edge"]
    assert asked == []
    with pytest.raises(PlatformError, match="debian:trixie-slim.*no route to registry.*images_runtime_rust_base"):
        _run(table)
    assert asked == [["docker", "pull", "--quiet", "debian:trixie-slim"]]


def test_refresh_builds_anew_what_the_distribution_has_newer_packages_for(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = _run(table, check_mode=True)["images"]["edge"]["tag"]
    table["registry"][tag] = "sha256:1"
    table["params"]["refresh"] = True
    said = {"upgrades": "Inst libssl3 [3.0.1] (3.0.2 Debian-Security)\n", "code": 0, "errors": ""}

    def run(self: Programs, argv: list[str], *_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        assert argv[:2] == ["docker", "run"] and "localhost:5001/lambda/edge@sha256:1" in argv
        return subprocess.CompletedProcess(argv, said["code"], said["upgrades"], said["errors"])

    docker: list[list[str]] = []

    def pushed(arguments: list[str], built: Any) -> None:
        docker.append(arguments)
        if arguments[0] == "push":
            table["registry"][tag] = "sha256:2"

    monkeypatch.setattr(Programs, "run", run)
    monkeypatch.setattr(image, "_docker", pushed)
    assert _run(table, check_mode=True)["built"] == ["edge"] and docker == []
    done = _run(table)
    assert done["built"] == ["edge"] and "--no-cache" in docker[0]
    # The sources are the same, and so is the tag.
    assert done["images"]["edge"] == {"repository": "localhost:5001/lambda/edge", "tag": tag, "digest": "sha256:2"}
    said["upgrades"] = ""
    monkeypatch.setattr(
        Programs,
        "run",
        lambda self, argv, *_, **__: subprocess.CompletedProcess(argv, said["code"], "", said["errors"]),
    )
    assert not _run(table)["changed"]
    # Without a shell there is nothing of a distribution.
    said.update(code=127, errors='exec: "/bin/sh": stat /bin/sh: no such file or directory')
    assert not _run(table)["changed"]
    said.update(code=100, errors="E: Failed to fetch http://mirror.example.com/debian")
    with pytest.raises(PlatformError, match=r"up to date cannot be told.*Failed to fetch"):
        _run(table)


def test_an_image_stands_under_each_name_that_it_serves(table: dict[str, Any]) -> None:
    table["params"]["images"][0]["serves"] = ["front", "back"]
    made = _run(table, check_mode=True)["images"]
    assert set(made) == {"front", "back"}
    assert made["front"] == made["back"] and made["front"]["repository"] == "localhost:5001/lambda/edge"
    table["params"]["images"].append({**table["params"]["images"][0], "name": "other", "serves": ["back"]})
    with pytest.raises(PlatformError, match="the image back is in the table more than once"):
        _run(table, check_mode=True)


def test_a_name_that_is_used_twice_is_refused(table: dict[str, Any]) -> None:
    table["params"]["images"] *= 2
    with pytest.raises(PlatformError, match="edge is in the table more than once"):
        _run(table)


def test_a_go_program_changes_the_tag_by_its_package_its_module_and_its_compiler(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag(package: str = "example.org/service") -> str:
        artifact = {"cargo": None, "pypi": None, "folder": None, "path": None, "as": "service", "go": package}
        table["params"]["images"][0]["artifacts"] = [artifact]
        return _run(table, check_mode=True)["images"]["edge"]["tag"]

    first = tag()
    assert tag("example.org/other") != first
    (table["folder"] / "go.sum").write_text("example.org/service v1.0.0 h1:x=\n")
    pinned = tag()
    assert pinned != first
    monkeypatch.setattr(image, "_output", lambda programs, argv, folder=None: b"go1.99")
    assert tag() != pinned


def test_a_rust_program_s_sources_are_its_crate_and_those_of_the_workspace_that_it_is_made_with(tmp_path: Path) -> None:
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo" / "config.toml").write_text("")
    (tmp_path / "Cargo.toml").write_text(
        '[workspace]\nresolver = "3"\nmembers = ["inner", "common", "service", "other"]\n'
        '[workspace.dependencies]\ncommon.path = "common"\n'
    )
    for name, dependencies in {
        "inner": "",
        "common": '[dependencies]\ninner.path = "../inner"\n',
        "service": "[dependencies]\ncommon.workspace = true\n",
        "other": "",
    }.items():
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "lib.rs").write_text("")
        (tmp_path / name / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{dependencies}'
        )
    subprocess.run(["cargo", "generate-lockfile", "--offline", "--quiet"], cwd=tmp_path, check=True)

    def tag() -> str:
        return image.content_tag(image._cargo_sources(Programs(), tmp_path, "service"))

    before = tag()
    (tmp_path / "other" / "src" / "lib.rs").write_text("// changed")
    assert tag() == before
    for crate in ("service", "common", "inner"):
        (tmp_path / crate / "src" / "lib.rs").write_text("// changed")
        assert tag() != before
        before = tag()


def _go_artifact(package: str, **given: Any) -> dict[str, Any]:
    return {"cargo": None, "pypi": None, "folder": None, "path": None, "as": None, "go": package, **given}


def test_a_go_program_is_built_from_the_module_beside_the_dockerfile(table: dict[str, Any]) -> None:
    (table["folder"] / "go.mod").write_text("module example.org/edge\n\ngo 1.21\n")
    (table["folder"] / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    params = table["params"]
    artifact = _go_artifact("example.org/edge")
    params["images"][0]["artifacts"] = [artifact]

    def build() -> Path:
        edge = image._Image(params["images"][0], params, Programs())
        return image._GoPrograms([edge], Path(params["cache_dir"])).program(edge, artifact)

    assert subprocess.run([build()], capture_output=True, check=True).stderr == b"hello\n"
    (table["folder"] / "main.go").write_text("package main\n\nfunc main() { nothing() }\n")
    with pytest.raises(PlatformError, match=r"(?s)go could not build example\.org/edge.*undefined: nothing"):
        build()


def test_go_programs_of_one_module_come_of_one_build_for_all_their_images(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Path(table["params"]["root"]) / "images" / "mesh"
    builds: list[tuple[str, ...]] = []

    class Recorded(Programs):
        def run(self, argv: Any, *arguments: Any, **options: Any) -> Any:
            builds.append(tuple(argv))
            return subprocess.CompletedProcess(argv, 0, "", "")

    for name in ("one", "two"):
        (module / "cmd" / name).mkdir(parents=True)
    (module / "go.mod").write_text("module example.org/mesh\n\ngo 1.21\n")
    params = table["params"]
    row = params["images"][0]
    images = []
    for name in ("one", "two"):
        artifact = _go_artifact(f"./cmd/{name}", module="images/mesh", flags=["-tags=small"])
        images.append(image._Image({**row, "name": name, "artifacts": [artifact]}, params, Recorded()))
    go = image._GoPrograms(images, Path(params["cache_dir"]))
    made = [go.program(one, one.artifacts[0]) for one in images]
    (built,) = builds
    assert built[-2:] == ("./cmd/one", "./cmd/two") and "-tags=small" in built
    assert [path.name for path in made] == ["one", "two"] and made[0].parent == made[1].parent
    # What the module is made of changes the image, and so do its flags.
    before = images[0].tag
    (module / "go.sum").write_text("example.org/service v1.0.0 h1:x=\n")
    row["artifacts"] = [_go_artifact("./cmd/one", module="images/mesh", flags=["-tags=small"])]
    changed = image._Image({**row, "name": "one"}, params, Programs()).tag
    row["artifacts"] = [_go_artifact("./cmd/one", module="images/mesh", flags=["-tags=large"])]
    assert len({before, changed, image._Image({**row, "name": "one"}, params, Programs()).tag}) == 3


@pytest.mark.parametrize(
    ("package", "name"), [("./cmd/gateway", "gateway"), ("example.org/server/v2", "server"), ("x/v2ray", "v2ray")]
)
def test_a_go_program_is_called_as_go_calls_it(package: str, name: str) -> None:
    assert image._program_name(package) == name


def test_a_file_that_is_no_table_of_references_is_not_overwritten(table: dict[str, Any]) -> None:
    output = Path(table["params"]["output"])
    for content in ("- of the user's own\n", "[1]\n"):
        output.write_text(content)
        with pytest.raises(PlatformError, match=r"something else in it.*images\.json"):
            _run(table)
        assert output.read_text() == content


def test_a_program_that_is_missing_and_one_that_fails_are_errors_with_their_text(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no-such-program is missing"):
        image._output(Programs(), ["no-such-program"])
    with pytest.raises(PlatformError, match=r"sh -c .* failed\. Found: no room left"):
        image._output(Programs(), ["sh", "-c", "echo no room left >&2; exit 3"])


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A ``docker`` on PATH that says this on stderr and ends with this code."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def says(errors: str, code: int = 1, output: str = "") -> None:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        (tmp_path / "errors").write_text(errors)
        (tmp_path / "output").write_text(output)
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/output; cat {tmp_path}/errors >&2; exit {code}\n")
        program.chmod(0o755)

    return says


def test_that_docker_cannot_look_for_an_image_is_no_answer(docker: Any) -> None:
    docker("Error: No such image: edge:1")
    assert not image._docker_has(Programs(), "edge:1")
    docker("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
    with pytest.raises(PlatformError, match=r"whether it has an image\. Where: edge:1\. Found: Cannot connect"):
        image._docker_has(Programs(), "edge:1")


def test_a_description_that_is_none_is_an_error(docker: Any) -> None:
    for output in ("", "{}", "[]", '{"Descriptor": []}'):
        docker("", 0, output)
        with pytest.raises(PlatformError, match="is not understood"):
            image.registry_digest(Programs(), "registry.example/edge", "1")
