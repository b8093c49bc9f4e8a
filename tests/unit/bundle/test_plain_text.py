from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle, Manifest, read_manifest
from toolkit.bundle.manifest import Golden, GoldenCase
from toolkit.bundle.plain_text import labels_text, samples_text
from toolkit.bundle.readme import readme
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.printable import unprintable
from toolkit.runtime.selftest import selftest_bundle

SPECIFICATION = Path(__file__).parents[3] / "docs" / "bundle.md"


def lines_of(text: str) -> list[tuple[str, str]]:
    """Return each line as its word and the rest, as the specification says."""
    assert text.endswith("\n")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text[:-1].split("\n"))]


def cases_in(text: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield file, logits and probabilities of each case, float32."""
    lines = lines_of(text)
    for index, (word, file) in enumerate(lines):
        if word == "case":
            (first, logits), (second, probabilities) = lines[index + 1 : index + 3]
            assert (first, second) == ("logits", "probabilities")
            rows = ([np.float32(number) for number in row.split(" ")] for row in (logits, probabilities))
            yield file, *map(np.array, rows)


def with_values(values: np.ndarray) -> Golden:
    cases = tuple(
        GoldenCase(file=f"golden/{index:03d}.bin", source="a", true_label=None, logits=row, probabilities=row[::-1])
        for index, row in enumerate([float(str(value)) for value in row] for row in values)
    )
    return Golden(height=8, width=8, labels=("blue", "green", "red"), cases=cases)


def test_every_new_bundle_has_both_files_and_lists_them(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    for name in ("labels.txt", "golden/samples.txt"):
        assert bundle.manifest.files[name].size_bytes == (colour_bundle / name).stat().st_size
    assert (colour_bundle / "labels.txt").read_bytes() == b"blue\ngreen\nred\n"
    text = (colour_bundle / "golden" / "samples.txt").read_text(encoding="utf-8")
    assert text == samples_text(bundle.manifest, bundle.golden())
    assert lines_of(text)[:7] == [
        ("samples", "1 3 3 8 8 3"),
        ("input", "images"),
        ("artifact", "model.onnx"),
        ("format", "onnx"),
        ("precision", "float32"),
        ("limits", "0.0001 0.001 0.001 -"),
        ("case", "golden/000.bin"),
    ]


def test_the_text_and_the_json_are_the_same_numbers_to_the_last_bit(colour_bundle: Path) -> None:
    golden = json.loads((colour_bundle / "golden" / "expected.json").read_bytes())
    found = list(cases_in((colour_bundle / "golden" / "samples.txt").read_text(encoding="utf-8")))
    assert len(found) == len(golden["cases"]) == 3
    for (file, logits, probabilities), case in zip(found, golden["cases"], strict=True):
        assert file == case["file"]
        assert logits.tobytes() == np.array(case["logits"], np.float32).tobytes()
        assert probabilities.tobytes() == np.array(case["probabilities"], np.float32).tobytes()


def test_any_float32_is_the_same_again_read_as_32_bits_or_as_64(colour_bundle: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 6000, dtype=np.uint32).view(np.float32)
    small = np.array([0, -0.0, 1e-45, 1.1754942e-38, 1.1754944e-38, 3.402823e38, -3.402823e38, 0.1, 1, 16777216])
    values = np.concatenate([bits[np.isfinite(bits)], small.astype(np.float32)])
    values = values[: len(values) // 3 * 3].reshape(-1, 3)
    text = samples_text(read_manifest(colour_bundle), with_values(values))
    for (_, logits, probabilities), row in zip(cases_in(text), values, strict=True):
        assert logits.tobytes() == row.tobytes()
        assert probabilities.tobytes() == row[::-1].tobytes()
    logits = [rest.split(" ") for word, rest in lines_of(text) if word == "logits"]
    assert np.array(logits, np.float64).astype(np.float32).tobytes() == values.tobytes()
    assert not re.search("inf|nan", text, re.IGNORECASE)


def changed(manifest: Manifest, **changes: object) -> Manifest:
    (artifact,) = manifest.artifacts
    return manifest.model_copy(update={"artifacts": (artifact.model_copy(update=changes),)})


def limits_in(manifest: Manifest, **rounding: float) -> str:
    golden = with_values(np.ones((1, 3), np.float32)).model_copy(update={"rounding": rounding})
    return next(rest for word, rest in lines_of(samples_text(manifest, golden)) if word == "limits")


def test_limits_are_those_of_the_artifact_and_of_its_rounding(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    assert limits_in(manifest, float32=2e-6) == f"0.0001 0.001 0.001 {10 * 2e-6!r}"
    assert limits_in(manifest, float32=0.0) == f"0.0001 0.001 0.001 {10 * 2.0**-24!r}"
    assert limits_in(manifest, float16=2e-6) == "0.0001 0.001 0.001 -"
    half = changed(manifest, precision="float16", tolerance=TOLERANCES["float16"])
    assert limits_in(half, float16=1e-3) == "0.002 0.02 0.02 0.004"
    assert limits_in(changed(manifest, precision="int8", tolerance=TOLERANCES["int8"]), float32=1.0) == "- - - -"
    assert limits_in(changed(manifest, precision="fp4", tolerance=None)) == "- - - -"


def test_where_the_caller_normalises_it_is_said_how(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    normalization = manifest.input.normalization.model_copy(
        update={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    )
    tensor = manifest.input.model_copy(
        update={"name": "tensor", "normalization_in_graph": False, "normalization": normalization}
    )
    text = samples_text(manifest.model_copy(update={"input": tensor}), with_values(np.ones((1, 3), np.float32)))
    assert lines_of(text)[1] == ("input", "tensor 0.485 0.456 0.406 0.229 0.224 0.225")
    words = [word for word, _ in lines_of(text)]
    assert "three means and three standard deviations" in readme(manifest.model_copy(update={"input": tensor}))
    assert "three means" not in readme(manifest)
    assert words == ["samples", "input", "artifact", "format", "precision", "limits", "case", "logits", "probabilities"]


def test_nothing_that_a_label_may_hold_ends_a_line() -> None:
    ends = [chr(code) for code in range(sys.maxunicode + 1) if len(f"a{chr(code)}b".splitlines()) > 1]
    assert "\n" in ends
    assert [character for character in ends if unprintable(character) is None] == []
    labels = (" a cat ", "dog, big", 'a "quoted" \\n', "été", "猫", "b\u200d")
    assert tuple(labels_text(labels).encode().decode().splitlines()) == labels


def test_a_bundle_from_before_both_files_is_as_good(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    for name in ("labels.txt", "golden/samples.txt"):
        (colour_bundle / name).unlink()
    kept = {name: record for name, record in manifest.files.items() if not name.endswith(".txt")}
    assert set(manifest.files) - set(kept) == {"labels.txt", "golden/samples.txt"}
    write_manifest(colour_bundle, manifest.model_copy(update={"files": kept}))
    assert set(read_manifest(colour_bundle).files) == set(kept)
    assert [result.passed for result in selftest_bundle(Bundle.open(colour_bundle))] == [True]


def test_the_specification_and_the_readme_name_the_words_in_their_order(colour_bundle: Path) -> None:
    words = [word for word, _ in lines_of((colour_bundle / "golden" / "samples.txt").read_text(encoding="utf-8"))]
    specification = SPECIFICATION.read_text(encoding="utf-8")
    section = specification[specification.index("### As plain text") : specification.index("### Tolerances")]
    for text in (section, (colour_bundle / "README.md").read_text(encoding="utf-8")):
        table = text[text.index("| word | what follows |") :].partition("\n\n")[0]
        cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        named = [word for cell in cells for word in re.findall("`(.*?)`", cell)]
        assert named == list(dict.fromkeys(words))
