from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing import FUZZ
from hypothesis import given
from hypothesis import strategies as st

from toolkit.bundle import Bundle
from toolkit.bundle.trust import archive
from toolkit.bundle.trust.archive import pack, unpack
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import sign_bundle
from toolkit.errors import BundleError, FileWriteError, IntegrityError, SignatureError, ToolkitError
from toolkit.files import sha256_file


@pytest.fixture
def packed(colour_bundle: Path, tmp_path: Path) -> Path:
    return pack(colour_bundle, tmp_path / "colours.tar")


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_is_left(folder: Path, *known: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(known)


class TestRoundTrip:
    def test_what_is_unpacked_is_what_was_packed(self, colour_bundle: Path, packed: Path, tmp_path: Path) -> None:
        unpacked = unpack(packed, tmp_path / "there")
        assert content_of(unpacked) == content_of(colour_bundle)
        assert Bundle.open(unpacked).manifest == Bundle.open(colour_bundle).manifest

    def test_the_same_bundle_is_the_same_bytes_wherever_and_whenever(
        self, colour_bundle: Path, packed: Path, tmp_path: Path
    ) -> None:
        other = shutil.copytree(colour_bundle, tmp_path / "elsewhere" / "deep" / "other", copy_function=shutil.copyfile)
        for path in other.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
            os.utime(path, (10**9, 10**9))
        assert sha256_file(pack(other, tmp_path / "again.tar")) == sha256_file(packed)
        assert sha256_file(pack(unpack(packed, tmp_path / "there"), tmp_path / "third.tar")) == sha256_file(packed)

    def test_the_layout_never_changes(self, tmp_path: Path) -> None:
        """The digest of a bundle that never changes: if this fails, archives of old and new toolkits differ."""
        first = shutil.copytree(Path(__file__).parents[3] / "assets" / "bundles" / "version-1", tmp_path / "first")
        assert (
            sha256_file(pack(first, tmp_path / "first.tar"))
            == "91bf5f879e6468cb3e5ac42f06baa39ade0d2bf60f295e38593a46ca443202c2"
        )

    def test_every_tar_reads_it(self, colour_bundle: Path, packed: Path, tmp_path: Path) -> None:
        with tarfile.open(packed, "r:") as archive:
            members = archive.getmembers()
            assert members[0].name == "manifest.json"
            assert [member.name for member in members[1:]] == sorted(member.name for member in members[1:])
            assert {(member.mode, member.uid, member.gid, member.uname, member.mtime) for member in members} == {
                (0o644, 0, 0, "", 0)
            }
            archive.extractall(tmp_path / "by tarfile", filter="data")
        assert content_of(tmp_path / "by tarfile") == content_of(colour_bundle)

    @pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar here")
    def test_the_command_tar_reads_it_without_a_word(self, colour_bundle: Path, packed: Path, tmp_path: Path) -> None:
        (tmp_path / "by tar").mkdir()
        done = subprocess.run(
            ["tar", "-xf", packed, "-C", tmp_path / "by tar"], capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert content_of(tmp_path / "by tar") == content_of(colour_bundle)

    def test_a_signature_travels_along(self, colour_bundle: Path, tmp_path: Path) -> None:
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
        private, public = tmp_path / "private.pem", tmp_path / "public.pem"
        make_keys(private, public)
        sign_bundle(colour_bundle, private)
        unpacked = unpack(pack(colour_bundle, tmp_path / "signed.tar"), tmp_path / "there", public)
        assert Bundle.open(unpacked, public).signature is not None

    def test_a_key_refuses_an_archive_that_is_not_signed_before_its_manifest_is_parsed(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
        make_keys(tmp_path / "private.pem", tmp_path / "public.pem")
        monkeypatch.setattr(
            archive,
            "parse_manifest",
            lambda *_: pytest.fail("parsed before the signature was checked"),
        )
        with pytest.raises(SignatureError, match=r"colours\.tar is not signed"):
            unpack(packed, tmp_path / "there", tmp_path / "public.pem")
        assert not (tmp_path / "there").exists()

    def test_a_bundle_without_its_card_travels_without(self, colour_bundle: Path, tmp_path: Path) -> None:
        (colour_bundle / "MODEL_CARD.md").unlink()
        unpacked = unpack(pack(colour_bundle, tmp_path / "colours.tar"), tmp_path / "there")
        assert content_of(unpacked) == content_of(colour_bundle)

    def test_a_flipped_byte_of_a_signed_archive_is_refused_or_changes_nothing_that_is_signed(
        self, colour_bundle: Path, tmp_path: Path
    ) -> None:
        """The signature file has spare bits (white space, the last digit of Base64); everything else has none."""
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
        private, public = tmp_path / "private.pem", tmp_path / "public.pem"
        make_keys(private, public)
        sign_bundle(colour_bundle, private)
        archive = pack(colour_bundle, tmp_path / "signed.tar")
        content = archive.read_bytes()
        for position in {*range(0, len(content), 61), *range(0, 512), len(content) - 1}:
            archive.write_bytes(
                content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :]
            )
            try:
                unpacked = content_of(unpack(archive, tmp_path / "there", public))
            except BundleError:
                continue
            different = {name for name, bytes_ in content_of(colour_bundle).items() if unpacked[name] != bytes_}
            assert different == {"manifest.json.sig"}
            shutil.rmtree(tmp_path / "there")
        assert nothing_is_left(tmp_path, "colours", "signed.tar", "private.pem", "public.pem")

    def test_names_are_taken_from_the_bundle_and_from_the_file(
        self, colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        assert pack(colour_bundle) == Path("colours.tar")
        assert unpack(Path("colours.tar")) == Path("colours")
        assert nothing_is_left(tmp_path / "here", "colours", "colours.tar")


class TestPack:
    def test_a_damaged_bundle_is_not_packed(self, colour_bundle: Path, tmp_path: Path) -> None:
        (colour_bundle / "golden" / "000.bin").write_bytes(bytes(192))
        with pytest.raises(IntegrityError, match=r"000\.bin is not the file"):
            pack(colour_bundle, tmp_path / "out" / "colours.tar")
        assert not (tmp_path / "out").exists()

    def test_a_file_that_changes_meanwhile_is_noticed(
        self, colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = archive._write_file

        def late(archive: object, name: str, path: Path, record: object) -> None:
            path.write_bytes(path.read_bytes()[::-1])
            real(archive, name, path, record)  # type: ignore[arg-type]  # handed through

        monkeypatch.setattr(archive, "_write_file", late)
        with pytest.raises(IntegrityError, match="was changed while it was packed"):
            pack(colour_bundle, tmp_path / "colours.tar")
        assert nothing_is_left(tmp_path, "colours")

    def test_an_archive_inside_the_bundle_is_refused(self, colour_bundle: Path) -> None:
        for inside in (colour_bundle / "colours.tar", colour_bundle / "golden" / "colours.tar"):
            with pytest.raises(FileWriteError, match=r"colours\.tar is inside the bundle"):
                pack(colour_bundle, inside)
        Bundle.open(colour_bundle)

    def test_a_name_that_leads_elsewhere_is_no_default(
        self, colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = colour_bundle / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "name": "../colours"}))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileWriteError, match=r"'\.\./colours' cannot name a file: name the archive with -o"):
            pack(colour_bundle)


Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(archive: Path) -> Members:
    with tarfile.open(archive, "r:") as opened:
        return [(member, opened.extractfile(member).read()) for member in opened.getmembers()]  # type: ignore[union-attr]  # they are regular files


def header(info: tarfile.TarInfo) -> bytes:
    """Return what tarfile writes, with the device numbers (0) that every member of ours has and tarfile leaves out."""
    made = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    made[329:345] = b"0000000\0" * 2
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def write(archive: Path, members: Members) -> None:
    """Write members as they are, ending as toolkit does."""
    with archive.open("wb") as file:
        for info, content in members:
            file.write(header(info))
            file.write(content + bytes(-len(content) % 512))
        file.write(bytes(1024))


def regular(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def append(*extra: tuple[tarfile.TarInfo, bytes]) -> Callable[[Members], Members]:
    return lambda members: [*members, *extra]


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], Members]:
    return lambda members: [
        regular(info.name, change(content)) if info.name == name else (info, content) for info, content in members
    ]


def with_field(name: str, **fields: object) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        for info, _ in members:
            if info.name == name:
                for field, value in fields.items():
                    setattr(info, field, value)
        return members

    return change


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: [member for member in members if member[0].name != name]


REFUSED: dict[str, tuple[Callable[[Members], Members], str]] = {
    "a path above": (append(regular("../evil")), r"'\.\./evil', which is not a path inside"),
    "an absolute path": (append(regular("/evil")), "'/evil', which is not a path inside"),
    "a path above in the middle": (append(regular("golden/../../evil")), "which is not a path inside"),
    "a device name": (append(regular("zz/nul")), "which is a device on Windows"),
    "an added file": (append(regular("zzz.bin")), r"holds zzz\.bin, which its manifest does not list"),
    "an added empty file": (append(regular("zzz.bin", b"")), r"holds zzz\.bin, which its manifest does not list"),
    "a symbolic link": (append(special("zzz", tarfile.SYMTYPE, "/etc/passwd")), "holds 'zzz' as a link"),
    "a hard link": (append(special("zzz", tarfile.LNKTYPE, "manifest.json")), "holds 'zzz' as a link"),
    "a folder": (append(special("zzz", tarfile.DIRTYPE)), "holds 'zzz/' as a folder"),
    "a device": (append(special("zzz", tarfile.CHRTYPE)), "holds 'zzz' as a device"),
    "a pipe": (append(special("zzz", tarfile.FIFOTYPE)), "holds 'zzz' as a pipe"),
    "an extension header": (append(special("zzz", tarfile.XHDTYPE)), "holds 'zzz' as an extension"),
    "a long name extension": (append(special("zzz", tarfile.GNUTYPE_LONGNAME)), "holds 'zzz' as an extension"),
    "a listed file that is a link": (
        lambda members: [
            special("model.onnx", tarfile.SYMTYPE, "/etc/passwd") if info.name == "model.onnx" else (info, data)
            for info, data in members
        ],
        r"holds 'model\.onnx' as a link",
    ),
    "a file twice": (lambda members: [*members, members[-1]], r"model\.onnx twice or out of order"),
    "a manifest twice": (lambda members: [members[0], *members], r"manifest\.json twice or out of order"),
    "a late signature": (append(regular("manifest.json.sig")), r"manifest\.json\.sig twice or out of order"),
    "another order": (lambda members: [members[0], *members[:0:-1]], "twice or out of order"),
    "a missing file": (without("golden/001.bin"), r"lacks golden/001\.bin"),
    "a missing manifest": (without("manifest.json"), r"starts with \.gitattributes instead of manifest\.json"),
    "nothing": (lambda _: [], r"starts with nothing instead of manifest\.json"),
    "a flipped byte": (
        edited("model.onnx", lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:]),
        r"model\.onnx is not the file",
    ),
    "a shorter file": (
        edited("golden/000.bin", lambda data: data[:-1]),
        r"golden/000\.bin has 191 bytes, its manifest says 192",
    ),
    "a bomb": (
        edited("golden/000.bin", lambda data: bytes(10**7)),
        r"golden/000\.bin has 10000000 bytes, its manifest says 192",
    ),
    "an edited card": (
        edited("MODEL_CARD.md", lambda data: data.replace(b"colours", b"COLOURS")),
        r"MODEL_CARD\.md is not the file",
    ),
    "another time": (with_field("model.onnx", mtime=1), r"model\.onnx with other times, owners or modes"),
    "an owner": (with_field("golden/000.bin", uid=1000), r"000\.bin with other times, owners or modes"),
    "a name of an owner": (with_field("golden/000.bin", uname="root"), r"000\.bin with other times, owners or modes"),
    "a mode": (with_field("golden/000.bin", mode=0o4755), r"000\.bin with other times, owners or modes"),
    "a key twice in the manifest": (
        edited("manifest.json", lambda data: data.replace(b'{\n  "schema', b'{\n  "name": "x",\n  "schema', 1)),
        "the key 'name' stands twice",
    ),
    "a manifest that is none": (edited("manifest.json", lambda _: b"{}"), "no schema version"),
    "a manifest that lists a way out": (
        edited("manifest.json", lambda data: data.replace(b"golden/000.bin", b"../evil")),
        "is not a path inside",
    ),
    "a huge manifest": (edited("manifest.json", lambda _: bytes(65 * 2**20)), r"manifest\.json is larger than"),
}


class TestUnpack:
    @pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED.keys())
    def test_what_is_refused_and_leaves_nothing(
        self, packed: Path, tmp_path: Path, change: Callable[[Members], Members], said: str
    ) -> None:
        write(tmp_path / "bad.tar", change(members_of(packed)))
        (tmp_path / "into").mkdir()
        with pytest.raises(BundleError, match=said):
            unpack(tmp_path / "bad.tar", tmp_path / "into" / "there")
        assert nothing_is_left(tmp_path / "into")
        assert not (tmp_path / "evil").exists()

    @pytest.mark.parametrize(
        ("format_", "said"),
        [
            (tarfile.USTAR_FORMAT, r"manifest\.json with other times, owners or modes than 'toolkit pack' writes"),
            (tarfile.PAX_FORMAT, "as an extension; 'toolkit pack' writes plain files only"),
        ],
    )
    def test_the_archive_of_another_tool_is_refused_with_the_reason(
        self, colour_bundle: Path, tmp_path: Path, format_: int, said: str
    ) -> None:
        with tarfile.open(tmp_path / "own.tar", "w", format=format_) as archive:
            archive.add(colour_bundle / "manifest.json", "manifest.json")
        with pytest.raises(IntegrityError, match=said):
            unpack(tmp_path / "own.tar", tmp_path / "there")

    @pytest.mark.parametrize("extra", [b"x", bytes(512), bytes(10240)])
    def test_data_after_the_end_are_refused(self, packed: Path, tmp_path: Path, extra: bytes) -> None:
        packed.write_bytes(packed.read_bytes() + extra)
        with pytest.raises(IntegrityError, match="it was cut, or something was added"):
            unpack(packed, tmp_path / "there")

    def test_data_between_members_are_refused(self, packed: Path, tmp_path: Path) -> None:
        content = bytearray(packed.read_bytes())
        content[-1025] = 1
        packed.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"holds data after the end of model\.onnx"):
            unpack(packed, tmp_path / "there")

    def test_an_archive_cut_at_any_block_is_refused(self, packed: Path, tmp_path: Path) -> None:
        content = packed.read_bytes()
        for length in [*range(0, len(content), 512), 1, 511, 700, len(content) - 1]:
            packed.write_bytes(content[:length])
            with pytest.raises(BundleError):
                unpack(packed, tmp_path / "there")
        assert not (tmp_path / "there").exists()

    @pytest.mark.parametrize("content", [b"noise" * 300, bytes(512), bytes(1024), b""])
    def test_what_is_no_archive_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "noise.tar").write_bytes(content)
        with pytest.raises(ToolkitError):
            unpack(tmp_path / "noise.tar", tmp_path / "there")

    def test_a_size_that_overflows_or_is_negative_is_refused(self, packed: Path, tmp_path: Path) -> None:
        for size in (b"77777777777", b"-0000000001", b"0x000000010", b"99999999999", b"0000_000001"):
            content = bytearray(packed.read_bytes())
            content[124:135] = size
            (tmp_path / "bad.tar").write_bytes(content)
            with pytest.raises(BundleError):
                unpack(tmp_path / "bad.tar", tmp_path / "there")

    @pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link"])
    def test_a_target_that_exists_is_refused_and_kept(self, packed: Path, tmp_path: Path, kind: str) -> None:
        target = tmp_path / "there"
        if kind == "file":
            target.write_bytes(b"mine")
        elif kind == "link":
            target.symlink_to("nowhere")
        else:
            target.mkdir()
            if kind == "folder":
                (target / "mine").write_bytes(b"mine")
        with pytest.raises(FileWriteError, match="there exists already: choose another folder with -o"):
            unpack(packed, target)
        assert os.path.lexists(target)

    def test_an_archive_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"nothing\.tar cannot be read: No such file"):
            unpack(tmp_path / "nothing.tar", tmp_path / "there")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
    def test_a_pipe_and_a_device_are_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.tar")
        (tmp_path / "zero.tar").symlink_to("/dev/zero")
        (tmp_path / "folder.tar").mkdir()
        for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder")):
            with pytest.raises(BundleError, match=rf"{name}\.tar cannot be read: it is {kind}\."):
                unpack(tmp_path / f"{name}.tar", tmp_path / "there")

    def test_what_the_disk_is_waited_for_does_not_grow_with_the_files(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not hasattr(os, "sync"):
            pytest.skip("this system syncs file by file")
        waited: list[str] = []
        monkeypatch.setattr("toolkit.files.os.fsync", lambda _: waited.append("a file"))
        monkeypatch.setattr("toolkit.files._sync_file_system", lambda _: waited.append("all files"))
        unpack(packed, tmp_path / "there")
        assert waited == ["all files"]

    def test_a_file_of_another_name_needs_a_folder(self, packed: Path, tmp_path: Path) -> None:
        renamed = packed.rename(tmp_path / "colours.zip")
        with pytest.raises(
            FileWriteError, match=r"colours\.zip does not end in \.tar: name the folder to make with -o"
        ):
            unpack(renamed)

    def test_weights_that_lead_out_are_refused_and_the_archive_is_named(
        self, colour_bundle: Path, packed: Path, tmp_path: Path
    ) -> None:
        entry = b"\x0a\x08location\x12\x0b/etc/passwd"
        tensor = b"\x70\x01\x6a" + bytes([len(entry)]) + entry
        graph = b"\x2a" + bytes([len(tensor)]) + tensor
        model = b"\x3a" + bytes([len(graph)]) + graph
        manifest = json.loads((colour_bundle / "manifest.json").read_bytes())
        manifest["artifacts"][0].update(sha256=hashlib.sha256(model).hexdigest(), size_bytes=len(model))
        members = edited("manifest.json", lambda _: json.dumps(manifest).encode())(members_of(packed))
        write(tmp_path / "bad.tar", edited("model.onnx", lambda _: model)(members))
        with pytest.raises(IntegrityError, match=r"bad\.tar/model\.onnx keeps weights in '/etc/passwd'"):
            unpack(tmp_path / "bad.tar", tmp_path / "there")

    def test_a_full_disk_is_one_sentence_and_leaves_nothing(
        self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(archive, "_extract", full)
        (tmp_path / "into").mkdir()
        with pytest.raises(FileWriteError, match="No space left on device"):
            unpack(packed, tmp_path / "into" / "there")
        assert nothing_is_left(tmp_path / "into")

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
    def test_a_kill_leaves_nothing_that_looks_like_a_bundle(self, packed: Path, tmp_path: Path) -> None:
        program = (
            "import sys, time, pathlib, toolkit.bundle.trust.archive as archive\n"
            "real = archive.check_folder\n"
            "def slow(*arguments):\n"
            "    print('all is extracted', flush=True)\n"
            "    time.sleep(60)\n"
            "archive.check_folder = slow\n"
            "archive.unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        )
        (tmp_path / "into").mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", program, packed, tmp_path / "into" / "there"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "all is extracted\n"
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "into" / "there").exists()
        assert list((tmp_path / "into").rglob("manifest.json")) == []
        assert Bundle.open(unpack(packed, tmp_path / "into" / "there"))


@st.composite
def edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut, repeat, move and change pieces of an archive, of which most begin and end at blocks."""

    def place(content: bytes) -> int:
        blocks = draw(st.integers(0, len(content) // 512))
        return min(len(content), blocks * 512 + draw(st.sampled_from([0, 0, 0, 124, 148, 156, 257, 511])))

    def apply(content: bytes) -> bytes:
        for _ in range(draw(st.integers(1, 3))):
            start, stop = sorted((place(content), place(content)))
            piece = content[start:stop]
            content = draw(
                st.sampled_from(
                    [
                        content[:start] + content[stop:],
                        content[:stop] + piece + content[stop:],
                        content[:start] + content[stop:] + piece,
                        content[:start] + draw(st.binary(max_size=40)) + content[stop:],
                        content[:start] + draw(st.binary(max_size=12)) + content[min(stop, start + 12) :],
                    ]
                )
            )
        return content

    return apply


@given(edit=edits())
@FUZZ
def test_fuzz_an_archive_gives_its_bundle_or_a_sentence_and_nothing_else(
    packed: Path, tmp_path: Path, edit: Callable[[bytes], bytes]
) -> None:
    changed = tmp_path / "changed" / "colours.tar"
    shutil.rmtree(changed.parent, ignore_errors=True)
    changed.parent.mkdir()
    content = packed.read_bytes()
    changed.write_bytes(edit(content))
    if changed.read_bytes() == content:
        assert Bundle.open(unpack(changed, changed.parent / "there"))
    else:
        with pytest.raises(ToolkitError) as refused:
            unpack(changed, changed.parent / "there")
        assert "\n" not in str(refused.value)
        assert nothing_is_left(changed.parent, "colours.tar")


@given(names=st.lists(st.text(max_size=20), max_size=4), sizes=st.lists(st.integers(0, 2000), min_size=4, max_size=4))
@FUZZ
def test_fuzz_members_of_any_name_are_never_written_outside(
    packed: Path, tmp_path: Path, names: list[str], sizes: list[int]
) -> None:
    changed = tmp_path / "changed" / "colours.tar"
    shutil.rmtree(changed.parent, ignore_errors=True)
    changed.parent.mkdir()
    content = packed.read_bytes()
    extra = b"".join(
        archive._header(name[:99], size)[:512] + bytes(size) + bytes(-size % 512)
        for name, size in zip(names, sizes, strict=False)
        if len(name.encode("utf-8", "replace")) < 100
    )
    changed.write_bytes(content[:-1024] + extra + content[-1024:])
    if extra:
        with pytest.raises(ToolkitError):
            unpack(changed, changed.parent / "there")
        assert nothing_is_left(changed.parent, "colours.tar")
