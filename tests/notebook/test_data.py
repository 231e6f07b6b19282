"""Objects of the notebook for the agent, and files of the container for the notebook."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import plotly.graph_objects
import plotly.io
import polars
import pyarrow
import pytest
from IPython.core.error import UsageError

from agent_magics.client import CommandCall, FileInput, TextInput
from agent_magics.notebook import ask
from agent_magics.notebook._data import _data, _tabular
from agent_magics.notebook._data._cells import chosen_cells
from agent_magics.notebook._data._data import chosen, pack, too_large, too_large_to_pack, with_data
from agent_magics.notebook._data._load import load
from agent_magics.notebook._data._names import named_in
from tests.support.fake_session import PNG, FakeClient, hello, install

FRAME = pandas.DataFrame({"city": ["Rome", "Oslo", None], "price": [1.5, 2.5, 3.5]})


def only(packed: Any) -> tuple[str, bytes]:
    ((path, data),) = packed.files.items()
    return path, data if isinstance(data, bytes) else data.read_bytes()


# -- tables


def test_a_pandas_frame_travels_whole_and_is_told_in_short() -> None:
    path, data = only(packed := pack("df", FRAME))
    assert path == "/workspace/data/df.parquet"
    pandas.testing.assert_frame_equal(pandas.read_parquet(io.BytesIO(data)), FRAME)
    assert "3 rows, 2 columns" in packed.text and "- price: float64" in packed.text
    assert "1 missing" in packed.text and "Rome,1.5" in packed.text


def test_without_pyarrow_it_is_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pandas.DataFrame, "to_parquet", refuse)
    indexed = FRAME.set_index("city")
    path, data = only(packed := pack("df", indexed))
    assert path == "/workspace/data/df.csv"
    assert data.decode().splitlines()[:2] == ["city,price", "Rome,1.5"]
    assert "Its index (city) is kept" in packed.text


def test_columns_of_mixed_types_become_csv() -> None:
    mixed = pandas.DataFrame({"x": [1, "two", {"three": 3}]}, dtype=object)
    assert only(pack("df", mixed))[0].endswith(".csv")


def test_other_tables() -> None:
    frame = polars.DataFrame({"a": [1, None], "b": ["x", "y"]})
    path, data = only(packed := pack("p", frame))
    assert polars.read_parquet(data).equals(frame) and path.endswith(".parquet")
    assert "2 rows, 2 columns" in packed.text and "- a: Int64, 1 missing" in packed.text
    table = pyarrow.table({"a": [1, 2, 3]})
    assert "3 rows, 1 columns" in pack("t", table).text
    assert "2 rows" in pack("b", table.to_batches()[0].slice(0, 2)).text
    assert "2 columns" not in pack("s", FRAME["price"]).text
    assert "3 rows, 1 columns" in pack("s", FRAME["price"]).text
    with pytest.raises(UsageError, match=r"p\.collect\(\)"):
        pack("p", frame.lazy())


def test_wide_and_long_tables_are_cut_for_the_model_only() -> None:
    wide = pandas.DataFrame({f"c{n}": ["x" * 200] * 1000 for n in range(150)})
    packed = pack("wide", wide)
    assert "and 50 more columns" in packed.text and "[cut]" in packed.text
    assert len(packed.text) < 10_000


# -- other things


def test_arrays() -> None:
    array = numpy.arange(10_000).reshape(100, 100)
    path, data = only(packed := pack("a", array))
    assert path.endswith("a.npy") and (numpy.load(io.BytesIO(data)) == array).all()
    assert "shape (100, 100)" in packed.text and len(packed.text) < 2000
    with pytest.raises(UsageError, match="Python objects"):
        pack("a", numpy.array([{}, []], dtype=object))
    with pytest.raises(UsageError, match=r"a\.filled"):
        pack("a", numpy.ma.array([1, 2], mask=[0, 1]))


def test_figures_and_pictures(tmp_path: Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    axes = Figure().add_subplot()
    for value in (axes, axes.figure, Image.new("RGB", (3, 3))):
        packed = pack("fig", value)
        path, data = only(packed)
        assert path == "/workspace/data/fig.png" and data.startswith(b"\x89PNG")
        assert packed.images == [FileInput(data, "image/png", "fig.png")]
    (tmp_path / "p.png").write_bytes(PNG)
    assert pack("p.png", tmp_path / "p.png").images == [FileInput(PNG, "image/png", "p.png")]


def test_text_json_and_source() -> None:
    assert pack("t", "short").files == {} and "short" in pack("t", "short").text
    long = pack("t", "x" * 50_000)
    assert only(long) == ("/workspace/data/t.txt", b"x" * 50_000) and len(long.text) < 2000
    assert '"a": [\n  1' in pack("d", {"a": [1]}).text
    many = pack("d", list(range(20_000)))
    assert json.loads(only(many)[1]) == list(range(20_000)) and "20000 entries" in many.text
    assert "def only(" in pack("only", only).text
    assert "````" in pack("t", "```").text
    for value in (object(), {1, 2}, float("inf").as_integer_ratio):
        with pytest.raises(UsageError, match="thing"):
            pack("thing", value)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "c.bin"):
        Path(name).write_bytes(b"x,y\n1,2\n" if name != "c.bin" else b"\xff\x00")
    found = chosen(["*.csv", "df", "c.bin"], {"df": FRAME})
    assert list(found) == ["a.csv", "b.csv", "df", "c.bin"]
    assert "x,y" in pack("a.csv", found["a.csv"]).text
    assert pack("c.bin", Path("c.bin")).text.endswith("c.bin (2 bytes).")
    for name in ("nothing", "*.xyz", "."):
        with pytest.raises(UsageError, match="neither a variable"):
            chosen([name], {})


def test_much_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert too_large([pack("df", FRAME)]) == ""
    monkeypatch.setattr(_data, "_LARGE", 100)
    assert "df (" in too_large([pack("df", FRAME)]) and "--large" in too_large([pack("df", FRAME)])


def test_the_prompt_itself_is_unchanged() -> None:
    packed = [pack("t", "text")]
    prompt, text = with_data("pr{o}mpt ", packed)  # type: ignore[misc]
    assert prompt == "pr{o}mpt " and isinstance(text, TextInput)
    assert next(iter(with_data([TextInput("a")], packed))) == TextInput("a")  # type: ignore[arg-type]
    assert next(iter(with_data({"parts": ["a"]}, packed))) == "a"
    with pytest.raises(UsageError, match="a command takes no data"):
        with_data(CommandCall("x"), packed)


NAMES = {
    "Look at @df and @df.": ["df"],
    "@df": ["df"],
    "compare @df, @other; (@df)": ["df", "other"],
    "mail me@df.example": [],
    "@property\ndef x(): @unknown": [],
    "see @data.csv. Then": ["data.csv"],
    "see @data.csv, @nothing.csv": ["data.csv"],
    "@@df and /@df": [],
}


@pytest.mark.parametrize("prompt", NAMES)
def test_names_in_prompts(prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").touch()
    assert named_in(prompt, {"df": 1, "other": 2}) == NAMES[prompt]


def test_plotly_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = plotly.graph_objects.Figure(
        [plotly.graph_objects.Bar(x=["a", "b"], y=numpy.array([1, 2]), name="sold")],
        layout={"title": {"text": "Sales"}, "xaxis": {"title": {"text": "city"}}},
    )
    monkeypatch.setattr(type(figure), "to_image", lambda self, format: PNG)
    assert pack("fig", figure).images == [FileInput(PNG, "image/png", "fig.png")]

    def without_chrome(self: Any, format: str) -> bytes:
        raise RuntimeError("Kaleido requires Google Chrome to be installed.")

    monkeypatch.setattr(type(figure), "to_image", without_chrome)
    path, data = only(packed := pack("fig", figure))
    assert path == "/workspace/data/fig.json" and packed.images == []
    again = plotly.io.from_json(data.decode())
    assert list(again.data[0].y) == [1, 2]
    assert again.layout.title.text == "Sales"
    assert b"template" not in data and len(data) < 1000
    for words in ("traces: 1 x bar", "title: Sales", "x axis: city", "- sold: x, y"):
        assert words in packed.text
    assert "kaleido and Chrome" in packed.note
    heat = plotly.graph_objects.Figure(plotly.graph_objects.Heatmap(z=numpy.eye(2)))
    assert json.loads(only(pack("fig", heat))[1])["data"][0]["z"] == [[1.0, 0.0], [0.0, 1.0]]
    assert "no traces" in pack("fig", plotly.graph_objects.Figure()).text


def test_pictures_of_all_kinds() -> None:
    from PIL import Image

    for mode in ("1", "L", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"):
        assert only(pack("p", Image.new(mode, (2, 2))))[1].startswith(b"\x89PNG")


def test_objects_that_json_does_not_know() -> None:
    value = {
        "array": numpy.arange(2),
        "day": datetime.date(2026, 1, 31),
        "file": Path("x") / "y",
        "fields": Row(1),
        "number": numpy.float64(1.5),
        "time": pandas.Timestamp("2026-01-31"),
    }
    text = pack("d", value).text
    assert json.loads(text.split("```")[1].removeprefix("json")) == {
        "array": [0, 1],
        "day": "2026-01-31",
        "file": "x/y",
        "fields": {"n": 1},
        "number": 1.5,
        "time": "2026-01-31T00:00:00",
    }
    assert '"n": 1' in pack("row", Row(1)).text
    nested: list[Any] = []
    nested.append(nested)
    for sent in (nested, [object()], {1: Row}):
        with pytest.raises(UsageError, match="can't be sent"):
            pack("d", sent)


@dataclasses.dataclass
class Row:
    n: int


UNUSUAL = {
    "labels that come twice": pandas.DataFrame([[1, 2]], columns=["a", "a"]),
    "complex numbers": pandas.DataFrame({"a": [1 + 2j]}),
    "sparse": pandas.DataFrame({"a": pandas.arrays.SparseArray([0, 1])}),
    "labels that are numbers": pandas.DataFrame({1: [1]}),
    "several levels": pandas.DataFrame({"a": [1]}, index=pandas.MultiIndex.from_tuples([(1, 2)])),
    "nothing": pandas.DataFrame(),
    "categories and times": pandas.DataFrame(
        {"a": pandas.Categorical(["x"]), "t": pandas.date_range("2026", periods=1, tz="UTC")}
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_tables(kind: str) -> None:
    path, data = only(packed := pack("df", UNUSUAL[kind]))
    assert path.endswith((".parquet", ".csv")) and data and "pandas DataFrame" in packed.text


def test_tables_that_no_file_can_hold() -> None:
    with pytest.raises(UsageError, match="can't be written as Parquet"):
        pack("p", polars.DataFrame({"a": [object()]}, schema={"a": polars.Object}))


def test_what_is_large_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabular, "_IN_MEMORY", 0)
    array = numpy.arange(10)
    sent = {
        "df": FRAME,
        "text": FRAME.astype(object).assign(x=[1, "two", {}]),
        "p": polars.DataFrame({"a": [1]}),
        "t": pyarrow.table({"a": [1]}),
        "a": array,
    }
    for name, value in sent.items():
        packed = pack(name, value)
        ((path, file),) = packed.files.items()
        assert isinstance(file, Path) and file.stat().st_size == packed.size > 0
        if name == "df":
            pandas.testing.assert_frame_equal(pandas.read_parquet(file), FRAME)
        if name == "text":
            assert path.endswith(".csv") and pandas.read_csv(file).shape == (3, 3)
        if name == "a":
            assert (numpy.load(file) == array).all()
        packed.discard()
        assert not file.exists() and packed.files == {}


def test_much_is_not_even_packed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(b"x" * 50)
    monkeypatch.setattr(_data, "_HUGE", 100)
    assert too_large_to_pack({"f": file, "d": {"x": 1}}) == ""
    for value in (FRAME.assign(x=range(3)), FRAME["price"].repeat(9), numpy.zeros(99)):
        assert "big (" in too_large_to_pack({"big": value, "d": {}})
    assert too_large_to_pack({"lazy": polars.DataFrame({"a": [1]}).lazy()}) == ""


# -- cells

PAST = ["", "import pandas as pd", "df = pd.read_csv('x')\ndf.head()", "", "%%agent\nhi"]


def test_chosen_cells() -> None:
    assert "In [2]:\n```python\ndf = pd.read_csv('x')\ndf.head()\n```" in chosen_cells(PAST, "2")
    assert "In [1]" in chosen_cells(PAST, "1-2") and "In [2]" in chosen_cells(PAST, "2, 1")
    assert "hi" not in chosen_cells(PAST, "all") and "import pandas" in chosen_cells(PAST, "all")
    assert "In [2]: df = pd.read_csv('x')  (+1 lines)" in chosen_cells(PAST, "outline")


@pytest.mark.parametrize("choice", ["4", "0", "9", "2-1", "x", "", "1-9", "3"])
def test_cells_that_are_not_there(choice: str) -> None:
    with pytest.raises(UsageError, match="--cells"):
        chosen_cells(PAST, choice)


# -- back into the notebook


def test_what_files_become() -> None:
    frame = load("/workspace/x.csv", b"a,b\n1,2\n")
    assert list(frame.columns) == ["a", "b"] and len(load("x.tsv", b"a\tb\n1\t2\n").columns) == 2
    buffer = io.BytesIO()
    FRAME.to_parquet(buffer)
    assert len(load("x.PARQUET", buffer.getvalue())) == 3
    assert load("x.json", b'{"a": 1}') == {"a": 1}
    assert load("x.md", "ü".encode()) == "ü" and load("x.bin", b"\xff") == b"\xff"
    assert load("x.png", PNG).data == PNG
    array = io.BytesIO()
    numpy.save(array, numpy.arange(3))
    assert list(load("x.npy", array.getvalue())) == [0, 1, 2]


@pytest.mark.parametrize("path", ["x.json", "x.parquet", "x.npy", "x.csv"])
def test_content_that_is_something_else(path: str) -> None:
    with pytest.raises(UsageError, match=path):
        load(path, b"")


def test_nothing_is_unpickled() -> None:
    evil = io.BytesIO()
    numpy.save(evil, numpy.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"x\.npy"):
        load("x.npy", evil.getvalue())


# -- through the magics


@pytest.fixture
def client(shell: Any) -> Iterator[FakeClient]:
    client = install(shell, hello)
    shell.extension_manager.load_extension("agent_magics")
    yield client
    shell.extension_manager.unload_extension("agent_magics")


def session_of(client: FakeClient) -> Any:
    (session,) = client.sessions.values()
    return session


def test_with_and_names_and_cells(shell: Any, client: FakeClient) -> None:
    shell.user_ns |= {"df": FRAME, "rates": {"eur": 1}, "unsent": "SECRET"}
    shell.run_cell("marker = 1", store_history=True)
    cell = "%%agent --with rates --cells outline\nLook at @df and {unsent_}"
    assert shell.run_cell(cell, store_history=True).success
    session = session_of(client)
    prompt, text = session.turns[0].prompt
    assert prompt == "Look at @df and {unsent_}"
    assert "rates, a dict" in text.text and "pandas DataFrame" in text.text
    assert "In [1]: marker = 1" in text.text and "SECRET" not in text.text
    assert set(session.files) >= {"/workspace/data/df.parquet"}


def test_classes_of_the_notebook(shell: Any, client: FakeClient) -> None:
    shell.run_cell("class Old:\n    x = 1", store_history=True)
    cell = (
        "import functools\n@functools.total_ordering\nclass Old:\n    x = 2\n    __lt__ = 1\ny = 3"
    )
    shell.run_cell(cell, store_history=True)
    shell.run_cell("%agent look at @Old", store_history=True)
    (turn,) = session_of(client).turns
    assert (
        "@functools.total_ordering\nclass Old:\n    x = 2\n    __lt__ = 1\n```"
        in turn.prompt[1].text
    )
    assert not shell.run_cell("%agent --with int hi").success


def test_raw_sends_nothing_along(shell: Any, client: FakeClient) -> None:
    shell.user_ns["df"] = FRAME
    shell.run_cell("%%agent --raw\nLook at @df")
    assert session_of(client).turns[0].prompt == "Look at @df"


def test_mistakes_are_told_before_anything_is_sent(
    shell: Any, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ("--with nothing x", "--cells 99 x", "--get =: x", "--get a-b:1x hi"):
        assert not shell.run_cell(f"%agent {line}").success
        assert "UsageError" in capsys.readouterr().err
    assert not client.sessions


def test_large_data_needs_a_word(
    shell: Any,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell.user_ns["df"] = FRAME
    for limit in ("_LARGE", "_HUGE"):
        monkeypatch.setattr(_data, limit, 10)
        assert not shell.run_cell("%agent hi @df").success
        assert "--large" in capsys.readouterr().err and not client.sessions
    assert shell.run_cell("%agent --large hi @df").success
    assert "Sent along: df (" in capsys.readouterr().out


def test_files_become_variables(shell: Any, client: FakeClient) -> None:
    session = client.session("ses_fake1")
    session.files |= {"/workspace/x.csv": b"a\n1\n", "/workspace/my-notes.md": b"notes"}
    line = "--get /workspace/x.csv:table --get /workspace/my-notes.md hi"
    assert shell.run_cell(f"%agent {line}").success
    assert list(shell.user_ns["table"].a) == [1] and shell.user_ns["my_notes"] == "notes"


def test_ask_does_the_same(shell: Any, client: FakeClient) -> None:
    ask("hi", data={"df": FRAME})
    assert "pandas DataFrame" in session_of(client).turns[0].prompt[1].text
