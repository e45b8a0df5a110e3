import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore_plugins.readers import labels as reader
from gancore_plugins.readers.labels import read_labels
from gancore_plugins.readers.picture_files import FolderFiles

NAMES = ["1.png", "2.png", "10.png", "deep/3.png"]


def read(folder, text, name="labels.csv", names=NAMES):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(FolderFiles(folder, names), name)


def given_labels(folder, text, **options):
    """The label of each picture, and the classes."""
    labels = read(folder, text, **options)
    return dict(zip(labels.names, labels.values.tolist(), strict=True)), labels.classes


@pytest.mark.parametrize(
    "text",
    [
        "1.png,b\n2.png,a\n",
        "file,class\n1.png,b\n2.png,a",
        "1.png;b\r\n\r\n2.png;a\r\n",
        "1.png\tb\n2.png\ta\n",
        '"1.png","b"\n"2.png","a"\n',
        "\ufefffile,class\n./1.png, b\n2.png ,a\n",
        "1,b\n2,a\n",
    ],
)
def test_table_of_classes_may_be_written_in_many_ways(tmp_path, text):
    assert given_labels(tmp_path, text) == ({"1.png": 1, "2.png": 0}, ("a", "b"))


def test_table_of_whole_numbers_has_classes_in_natural_order(tmp_path):
    assert given_labels(tmp_path, "1.png,10\n2.png,9\n") == ({"1.png": 1, "2.png": 0}, ("9", "10"))


@pytest.mark.parametrize("text", ["1.png,1.5\n2.png,-2\n", "f,x\n1.png,1.5\n2.png,-2e0\n"])
def test_table_of_numbers_with_a_point_has_vectors(tmp_path, text):
    labels = read(tmp_path, text)
    assert labels.values.dtype == np.float32
    assert labels.values.tolist() == [[1.5], [-2.0]]
    assert labels.classes == ()


def test_names_of_classes_with_underscores_are_no_numbers(tmp_path):
    assert given_labels(tmp_path, "1.png,30_39\n2.png,20_29\n") == ({"1.png": 1, "2.png": 0}, ("20_29", "30_39"))
    with pytest.raises(DataError, match=r"line 2 of .* all after the file must be numbers; received .1_0, 2"):
        read(tmp_path, "1.png,1,2\n2.png,1_0,2\n")


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
        min_size=1,
    )
)
def test_numbers_are_read_as_they_were_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("in")
    table = "".join(f"{name},{','.join(map(repr, values))}\n" for name, values in rows.items())
    document = json.dumps({"labels": [[name, values] for name, values in rows.items()]})
    for labels in (read(folder, table), read(folder, document, name="dataset.json")):
        assert dict(zip(labels.names, labels.values.tolist(), strict=True)) == rows
        assert labels.names == [name for name in NAMES if name in rows]


def test_names_are_relative_to_the_folder_of_the_file_or_alone(tmp_path):
    names = ["set/a/1.png", "set/b/1.png", "set/b/2.png", "2.jpg"]
    labels = read(tmp_path, "a/1.png,x\nb\\1.png,y\n2.png,z\n1.png,x\n2,x\n", name="set/labels.csv", names=names)
    assert labels.names == names[:3]
    assert labels.values.tolist() == [0, 1, 2]
    assert labels.missing == []
    assert labels.ambiguous == [
        "1.png is the name of several pictures (set/a/1.png; set/b/1.png)",
        "2 is the name of several pictures (set/b/2.png; 2.jpg)",
    ]


def test_table_with_only_names_of_several_pictures_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"for none of the 2 pictures .*: 1 is the name of several pictures") as caught:
        read(tmp_path, "1,x\n2,y\n", names=["a/1.png", "b/1.png"])
    assert caught.value.hint == "write their paths in the file"


def test_numbers_of_classes_in_json_stay_as_they_are(tmp_path):
    text = json.dumps({"labels": [["2.png", 3], ["1.png", 0], ["gone.png", 9]]})
    labels = read(tmp_path, text, name="dataset.json")
    assert labels.values.tolist() == [0, 3]
    assert labels.classes == ("0", "1", "2", "3")
    assert labels.missing == ["gone.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.png,a\n2.png\n", "line 2 of"),
        ("1.png,a\n2.png,a,b\n", "line 2 of"),
        ("1.png,a\n2.png,\n", "line 2 of"),
        ("1.png,1,2\n2.png,1,x\n", "line 2 of"),
        (
            "file,class,fold\n1.png,cat,1\n",
            "line 2 of .* has 3 columns, so all after the file must be numbers",
        ),
        ("1.png,1.5\n2.png,nan\n", "line 2 of"),
        ("1.png,1.5\n2.png,1e39\n", "line 2 of"),
        ("1.png,a\n1.png,b\n", "line 2 of"),
        ('1.png,a\n2.png,"b\n', "of"),
        ("1.png\n2.png\n", "line 1 of"),
        ("1.png,a\n2.png," + "b" * 200_000, "line 2 of"),
        ("", "has no rows"),
        ("file,class\n", "has no rows"),
        ("gone.png,a\n", "has a label for none of the 4 pictures"),
        (b"1.png,\xff\n", "is no text in UTF-8"),
    ],
)
def test_table_that_is_not_understood_names_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert "labels.csv" in caught.value.message
    assert caught.value.hint
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", 'its "labels" are no list'),
        ('{"labels": null}', 'its "labels" are null'),
        ('{"labels": [["1.png"]]}', r"label 0 in .* must be \[file, label\]"),
        ('{"labels": [["1.png", 0], ["2.png", -1]]}', "label 1 in .* must be a class in 0..9,999 or a list"),
        ('{"labels": [["1.png", 10000]]}', "label 0"),
        ('{"labels": [["1.png", true]]}', "label 0"),
        ('{"labels": [["1.png", [1, null]]]}', "label 0"),
        ('{"labels": [["1.png", []]]}', "label 0"),
        ('{"labels": [["1.png", [NaN]]]}', "label 0 in .* must be finite"),
        ('{"labels": [["1.png", 0], ["2.png", [1]]]}', "must be all classes, or all vectors of one length"),
        ('{"labels": [["1.png", [1]], ["2.png", [1, 2]]]}', "must be all classes, or all vectors of one length"),
    ],
)
def test_json_that_is_not_understood_names_the_entry(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content, name="dataset.json")
    assert "dataset.json" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("first", ["9,a", "deep/9,a"])
def test_first_line_is_no_header_if_another_differs_only_in_its_number(tmp_path, first):
    labels = read(tmp_path, f"{first}\n1,b\ndeep/3,a\n")
    assert (labels.names, labels.header) == (["1.png", "deep/3.png"], "")
    assert labels.missing == [first.partition(",")[0]]


def test_header_is_known(tmp_path):
    assert read(tmp_path, "file;class\n1;b\n2;a\n").header == "'file;class'"
    assert read(tmp_path, "1,b\n2,a\n").header == ""
    assert len(read(tmp_path, f"file,{'x' * 1000}\n1,b\n").header) < 100


def test_number_of_classes_is_bounded(tmp_path):
    names = [f"{number}.png" for number in range(10_001)]
    lines = [f"{name},c{number}\n" for number, name in enumerate(names)]
    assert len(read(tmp_path, "".join(lines[:-1]), names=names).classes) == 10_000
    with pytest.raises(DataError, match=r"at most 10,000 classes; .*labels\.csv has 10,001 different labels"):
        read(tmp_path, "".join(lines), names=names)


def test_label_file_that_is_missing_or_too_large_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot read labels .*labels\.csv: No such file"):
        read_labels(FolderFiles(tmp_path, NAMES), "labels.csv")
    monkeypatch.setattr(reader, "MOST_BYTES", 5)
    with pytest.raises(DataError, match=r"has 8 bytes; the most is 5"):
        read(tmp_path, "1.png,a\n")
