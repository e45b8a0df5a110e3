import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gancore
from gancore.data.feed import Feed
from gancore.data.items import read_items
from gancore.errors import DataError
from gancore_plugins.datasets.table import Table

names = st.lists(st.text("abcxyz ,;\"'é", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=4)
cells = st.floats(-1e6, 1e6, width=32)


def written(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def values(path, **fields):
    return read_items(Table(path=str(path), **fields).build(path.parent))[0].tolist()


def failure(path, **fields):
    with pytest.raises(DataError) as caught:
        Table(path=str(path), **fields).build(path.parent)
    assert caught.value.hint
    return f"{caught.value.message} | {caught.value.hint}"


@given(names.filter(lambda each: len(set(each)) == len(each)), st.sampled_from(",;\t|"), st.data())
@settings(max_examples=40)
def test_table_reads_what_csv_writers_write(tmp_path_factory, columns, delimiter, data):
    folder = tmp_path_factory.mktemp("tables")
    rows = data.draw(st.lists(st.tuples(*[cells] * len(columns)), min_size=2, max_size=6))
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=data.draw(st.sampled_from([0, 1])))
        writer.writerows([columns, *rows])
    table = Table(path=str(folder / "a.csv"), delimiter=delimiter, decimal=".", header=True)
    built = table.build(folder)
    assert built.columns == tuple(columns)
    assert torch.equal(built.tensors[0], torch.tensor(rows, dtype=torch.float32))
    assert table.outline().items == len(rows)


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("a,b\n1,2\n3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("\ufeffa;b\r\n1;2\r\n\r\n3;4\r\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("a\tb\n1\t2\n3\t4", ("a", "b"), [[1, 2], [3, 4]]),
        ("a|b\n1|2\n3|4", ("a", "b"), [[1, 2], [3, 4]]),
        ('"a, in m","b"\n"1","2"\n"3e0","-4"\n', ("a, in m", "b"), [[1, 2], [3, -4]]),
        ("\n\na,b\n1,2\n", ("a", "b"), [[1, 2]]),
        ("\n1,2\n3,4\n", ("column 1", "column 2"), [[1, 2], [3, 4]]),
        ("a;b\n1,5;2\n3,25;4\n", ("a", "b"), [[1.5, 2], [3.25, 4]]),
        ("1,2\n3,4\n", ("column 1", "column 2"), [[1, 2], [3, 4]]),
        ("a\n1\n3\n", ("a",), [[1], [3]]),
        (",a\n0,5\n1,6\n2,9\n", ("a",), [[5], [6], [9]]),
    ],
    ids=repr,
)
def test_table_form_is_found(tmp_path, text, columns, expected):
    path = written(tmp_path / "a.csv", text)
    built = Table.from_path(path).build(tmp_path)
    assert (built.columns, built.tensors[0].tolist()) == (columns, expected)


def test_table_in_utf16_is_read(tmp_path):
    assert values(written(tmp_path / "a.csv", "é,b\n1,2\n3,4\n", "utf-16")) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("with_index", [False, True])
def test_table_with_the_default_header_of_pandas_is_read_or_named(tmp_path, with_index):
    text = ",0,1,2\n0,5.0,7.0,9.0\n1,6.0,8.0,1.0\n" if with_index else "0,1,2\n5.0,7.0,9.0\n6.0,8.0,1.0\n"
    path = written(tmp_path / "a.csv", text)
    table = Table.from_path(path)
    notes = table.findings(tmp_path).notes
    if with_index:
        assert table.build(tmp_path).columns == ("0", "1", "2")
        assert values(path) == [[5, 7, 9], [6, 8, 1]]
        assert notes == []
        return
    assert values(path)[0] == [0, 1, 2]
    assert notes[0].startswith("the first row, 0 to 2, is read as a sample; if it is a header")
    assert "--set dataset.header=true" in notes[0]
    assert values(path, header=True) == [[5, 7, 9], [6, 8, 1]]
    assert Table(path=str(path), header=True).findings(tmp_path).notes == []
    assert Table(path=str(path), header=False).findings(tmp_path).notes == []


def test_table_whose_header_is_found_has_no_note_of_its_first_row(tmp_path):
    table = Table.from_path(written(tmp_path / "a.csv", "x,y\n0,1\n1,0\n"))
    assert not [note for note in table.findings(tmp_path).notes if "header" in note]


def test_columns_that_count_the_rows_are_left_out_and_named(tmp_path):
    path = written(tmp_path / "a.csv", ",id,a\n0,1,5\n1,2,7\n2,3,7\n")
    found = Table.from_path(path).findings(tmp_path)
    assert found.skipped == {"columns that count the rows": ("column 1",)}
    assert found.notes == ["column 'id' counts the rows; leave it out of columns unless that is meant"]


def test_networks_see_columns_with_mean_0_and_standard_deviation_1(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(40, 10)},{rng.normal(4e4, 1e4)},7" for _ in range(300)]
    path = written(tmp_path / "a.csv", "age,income,one\n" + "\n".join(rows))
    feed = Feed(Table.from_path(path).build(tmp_path), batch_size=300, seed=0, device=torch.device("cpu"))
    seen = next(feed.batches(0)).images
    assert torch.allclose(seen.mean(dim=0), torch.zeros(3), atol=1e-3)
    assert torch.allclose(seen.std(dim=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-2)
    samples = feed.format.to_stored(torch.randn(1000, 3))
    assert torch.allclose(samples.mean(dim=0), torch.tensor([40.0, 4e4, 7.0]), rtol=0.1)
    assert (samples[:, 2] - 7).abs().max() < 1e-3
    assert "column 'one' has one value only, 7" in Table.from_path(path).findings(tmp_path).notes
    assert not hasattr(Table(path=str(path), standardize=False).build(tmp_path), "scales")


MISSING = "a,b,c\n1,2,x\n,4,y\n5,NA,x\n7,8,x\n9,10,\n"


def test_missing_values_are_named_skipped_or_replaced_by_the_mean(tmp_path):
    path = written(tmp_path / "a.csv", MISSING)
    assert "lacks 2 values: " in failure(path, columns=["a", "b"])
    assert "lacks 1 value: line 4, b" in failure(path, columns=["b"])
    assert "line 3, a; line 4, b: 'NA' |" in failure(path, columns=["a", "b"])
    assert "line 6, c" in failure(path, label="c")
    assert values(path, columns=["a", "b"], missing="skip") == [[1, 2], [7, 8], [9, 10]]
    assert values(path, columns=["a", "b"], missing="mean") == [[1, 2], [5.5, 4], [5, 6], [7, 8], [9, 10]]
    assert values(path, label="c", missing="skip") == [[1, 2], [7, 8]]
    assert "has no c in 1 row," in failure(path, label="c", missing="mean")
    skipped = Table(path=str(path), columns=["a", "b"], missing="skip").findings(tmp_path).skipped
    assert skipped == {"columns left out": ["c"], "missing values left out": ["line 3, a", "line 4, b: 'NA'"]}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_may_be_words_that_are_no_numbers(tmp_path, suffix):
    kinds, path = ["none", "-", "none", "-", "NaN", ""], tmp_path / f"a{suffix}"
    if suffix == ".csv":
        written(path, "a,kind\n" + "".join(f"{number}.5,{kind}\n" for number, kind in enumerate(kinds)))
    else:
        pq.write_table(pa.table({"a": [number + 0.5 for number in range(6)], "kind": kinds}), path)
    table = Table(path=str(path), label="kind", missing="skip")
    built = table.build(tmp_path)
    assert (built.classes, built.labels.tolist()) == (("-", "none"), [1, 0, 1, 0])
    row = "line 6" if suffix == ".csv" else "row 5"
    assert f"lacks 2 values: {row}, kind: 'NaN'; " in failure(path, label="kind")


@pytest.mark.parametrize(
    ("kinds", "classes"),
    [
        (["none", "-"] * 4, ("-", "none")),
        (["none"] * 12 + ["crack", "dent", "chip", "bend"], ("bend", "chip", "crack", "dent", "none")),
    ],
)
def test_words_for_missing_numbers_count_where_a_column_of_labels_is_recognized(tmp_path, kinds, classes):
    rows = "".join(f"{number}.5,{kind}\n" for number, kind in enumerate(kinds))
    path = written(tmp_path / "a.csv", f"a,defect\n{rows}")
    table = Table.from_path(path)
    assert (table.label, table.build(tmp_path).classes) == ("defect", classes)
    assert failure(path).endswith("; --set dataset.label=defect makes it the class")


def test_column_with_one_word_for_missing_numbers_is_no_label(tmp_path):
    path = written(tmp_path / "a.csv", "a,b\n" + "1,-\n2,-\n" * 4)
    assert Table.from_path(path).label is None
    assert "lacks 8 values" in failure(path)


def test_wrong_cells_are_all_named_by_line_and_column(tmp_path):
    path = written(tmp_path / "a.csv", 'a,b\n1,2\n"x\ny",3\n4,1_0\n5,inf\n6\n7,8\n')
    message = failure(path)
    assert message.startswith("4 places of")
    for place in ("line 4, a: 'x\\ny'", "line 5, b: '1_0'", "line 6, b: 'inf'", "line 7: 1 cells, not 2"):
        assert place in message, message
    assert values(path, on_error="skip") == [[1, 2], [7, 8]]
    assert len(Table(path=str(path), on_error="skip").findings(tmp_path).skipped["unreadable as numbers"]) == 4


def test_text_columns_are_refused_with_the_way_on(tmp_path):
    path = written(tmp_path / "a.csv", "a,city,street\n1,x,p\n2,x,q\n3,y,r\n4,y,s\n")
    message = failure(path)
    assert "'city' (text); 'street' (text) of" in message
    assert """--set 'dataset.columns=["a"]' leaves them out; --set dataset.label=city makes it the class""" in message
    assert values(path, columns=["a"]) == [[1], [2], [3], [4]]
    assert "has no column 'town'; it has a, city, street" in failure(path, columns=["town"])


def test_text_columns_are_proposed_as_the_class_only_where_they_can_be(tmp_path):
    rows = "".join(f"{n},name{n},{n % 3},{n % 2}.5,kind{n % 2}\n" for n in range(1, 9))
    path = written(tmp_path / "a.csv", "id,name,a,b,kind\n" + rows)
    way = """--set 'dataset.columns=["a","b"]' leaves them out"""
    assert failure(path).endswith(f"{way}; --set dataset.label=kind makes it the class")
    assert failure(path, columns=["id", "name", "a"]).endswith("""["id","a"]' leaves them out""")
    assert failure(path, columns=["a", "kind"]).endswith("""["a"]' leaves them out""")
    assert Table(path=str(path), columns=["a", "b"], label="kind").build(tmp_path).classes == ("kind0", "kind1")


def test_label_column_names_the_classes_in_natural_order(tmp_path):
    path = written(tmp_path / "a.csv", "a,kind\n1,k10\n2,k2\n3,k10\n4,k2\n")
    table = Table.from_path(path)
    built = table.build(tmp_path)
    assert (table.label, built.classes, built.labels.tolist()) == ("kind", ("k2", "k10"), [1, 0, 1, 0])
    assert table.outline().classes == ("k2", "k10")
    numbered = written(tmp_path / "b.csv", "a,class\n" + "".join(f"{n * n},{n % 2}\n" for n in range(60)))
    assert "makes it the class" in str(Table.from_path(numbered).findings(tmp_path).notes)
    assert Table(path=str(numbered), label="class").build(tmp_path).classes == ("0", "1")


def test_label_with_a_value_of_its_own_in_each_row_is_refused(tmp_path):
    path = written(tmp_path / "a.csv", "a,b\n" + "".join(f"{n},{n}\n" for n in range(9)))
    assert "9 different values in 9 rows" in failure(path, label="b")


def test_decimal_comma_must_be_unambiguous_or_set(tmp_path):
    path = written(tmp_path / "a.csv", "a;b\n1,234;2\n3,456;4\n")
    assert "may mark decimals or thousands" in failure(path)
    assert values(path, decimal=",")[0] == pytest.approx([1.234, 2])
    assert "'a' (text) of" in failure(path, decimal=".")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has no rows"),
        (b"a,a\n1,2\n", "two columns .* are called 'a'"),
        (b"a,b\n\xff,2\n", "is not text in UTF-8: byte 0xff"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not text in UTF-8"),
        (b"a\0b,2\n3,4\n", "null characters"),
        (b"a,b\n1e39,1\n2,3\n", "at most 3e38"),
        (b"a,b\nNA,1\nNA,3\n", "lacks 2 values"),
        (b'a,b\n"' + b"x" * 200_000 + b'",2\n', "field larger"),
    ],
    ids=lambda value: "",
)
def test_table_error_names_the_file_and_the_reason(tmp_path, content, words):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){words}") as caught:
        Table(path=str(path)).build(tmp_path)
    assert "a.csv" in caught.value.message


def test_column_that_float32_cannot_hold_is_noted(tmp_path):
    rows = "".join(f"{1_700_000_000 + 7 * n % 500},{n * n}\n" for n in range(50))
    path = written(tmp_path / "a.csv", "time,a\n" + rows)
    assert "column 'time' loses digits: float32 rounds its values to steps of 128" in str(
        Table.from_path(path).findings(tmp_path).notes
    )


def test_parquet_holds_numbers_missing_values_and_labels(tmp_path):
    path = tmp_path / "a.parquet"
    table = {"a": [1, 2, None, 4], "b": [0.5, 1.5, 2.5, float("nan")], "kind": ["x", "y", "x", "y"]}
    pq.write_table(pa.table(table), path)
    found = Table.from_path(path)
    assert found.label == "kind"
    assert "row 3, a; row 4, b" in failure(path, label="kind")
    assert values(path, label="kind", missing="skip") == [[1, 0.5], [2, 1.5]]
    assert "'kind' (text) of" in failure(path)
    path.write_bytes(path.read_bytes()[:-5])
    assert "as Parquet" in failure(path)


def test_parquet_booleans_are_numbers_and_other_types_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    times = pa.array([1, 2, 3], pa.timestamp("s"))
    pq.write_table(pa.table({"a": [True, False, True], "when": times, "b": [5, 6, 8]}), path)
    assert "numbers; 'when' (timestamp[" in failure(path)
    assert values(path, columns=["a", "b"]) == [[1, 5], [0, 6], [1, 8]]


def test_held_out_rows_have_the_scales_and_means_of_the_training_rows(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal()},{'' if n == 3 else rng.normal()}" for n in range(60)]
    path = written(tmp_path / "a.csv", "a,b\n" + "\n".join(rows))
    table = Table(path=str(path), holdout=0.25, missing="mean")
    train, test = table.part("train"), table.part("test")
    assert train == table
    built = [part.build(tmp_path) for part in (train, test)]
    assert len(built[0]) + len(built[1]) == 60
    assert 5 <= len(built[1]) <= 25
    assert built[0].scales == built[1].scales
    assert built[0].scales[0][0] == pytest.approx(float(built[0].tensors[0][:, 0].double().mean()))


def test_rows_added_later_leave_the_held_out_rows_as_they_were(tmp_path):
    rows = "a\n" + "".join(f"{n * n}\n" for n in range(40))
    path = written(tmp_path / "a.csv", rows)
    before = values(path, holdout=0.2, split="test")
    written(path, rows + "".join(f"{n}.5\n" for n in range(40)))
    assert values(path, holdout=0.2, split="test")[: len(before)] == before


def test_large_table_shows_progress_and_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore_plugins.readers.cells._CELLS", 10)
    path = written(tmp_path / "a.csv", "a\n" + "".join(f"{n * n}\n" for n in range(10_000)))
    progress = list(Table(path=str(path)).prepare(tmp_path))
    assert progress == sorted(progress)
    assert len(progress) == 1000
    monkeypatch.setattr("gancore_plugins.readers.cells.MOST_CELLS", 100)
    assert "more than 100 cells" in failure(written(path, "b\n" + "1\n2\n" * 100))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_wide_table_is_read_in_parts_of_few_rows(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("gancore_plugins.readers.cells._CELLS", 1000)
    rows, path = np.random.default_rng(0).normal(size=(30, 100)), tmp_path / f"a{suffix}"
    columns = [f"c{number}" for number in range(100)]
    if suffix == ".csv":
        np.savetxt(path, rows, delimiter=",", header=",".join(columns), comments="")
    else:
        pq.write_table(pa.table(dict(zip(columns, rows.T, strict=True))), path)
    assert len(list(Table(path=str(path)).prepare(tmp_path))) == 3
    assert np.allclose(values(path), rows)
    monkeypatch.setattr("gancore_plugins.readers.cells.MOST_COLUMNS", 99)
    assert "has 100 columns; the most is 99" in failure(path)


def test_files_that_are_no_tables_are_left_to_other_datasets(tmp_path):
    assert Table.from_path(tmp_path) is None
    assert Table.from_path(written(tmp_path / "a.txt", "a,b\n1,2\n")) is None


def test_loaded_generator_samples_in_the_units_of_the_table(tmp_path):
    rows = "".join(f"{20 + n % 50},{30_000 + 97 * n}\n" for n in range(200))
    path = written(tmp_path / "a.csv", "age,income\n" + rows)
    run = gancore.Run(
        generator="mlp",
        discriminator="mlp",
        loss="bce",
        dataset=Table(path=str(path)),
        steps=2,
        set={"batch_size": 20},
        out=tmp_path / "run",
        device="cpu",
    )
    list(run.train())
    trained = gancore.load(tmp_path / "run", device="cpu")
    assert trained.columns == ("age", "income")
    assert trained.sample_format == run.gan.feed.format
    samples = trained.sample(100)
    assert 20 < samples[:, 0].mean() < 70
    assert 30_000 < samples[:, 1].mean() < 50_000


def test_parquet_with_damaged_names_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"height": [1.0, 2.0]}), path)
    path.write_bytes(path.read_bytes().replace(b"height", b"\xe8eight"))
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet as Parquet"):
        Table.from_path(path)


@pytest.mark.parametrize(
    ("text", "fields", "names"),
    [
        ("a;b\n1,234;2\n5,678;3\n", {"decimal": ","}, ("a", "b")),
        ("x,x\n1,2\n3,4\n", {"header": False, "on_error": "skip"}, ("column 1", "column 2")),
    ],
)
def test_table_that_needs_a_setting_is_read_with_it(tmp_path, text, fields, names):
    found = Table.from_path(written(tmp_path / "a.csv", text))
    with pytest.raises(DataError):
        found.outline()
    assert found.model_copy(update=fields).build(tmp_path).columns == names


def test_table_that_no_setting_helps_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        Table.from_path(written(tmp_path / "a.csv", ""))
