"""Files of torch.save: their tensors are read, and nothing that they contain is run."""

import builtins
import contextlib
import enum
import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch

from llm4rec_cli.errors import DataError
from llm4rec_studies import torch_file

WEIGHT = torch.arange(12.0).view(3, 4)
RECORD = bytes(16)  # four numbers of float32


def tensors(path):
    with torch_file.opened(path) as file:
        return {name: file.read(name) for name in file.tensors}


def refused(path, message=""):
    """Assert that a file is refused with this message and a remedy."""
    with pytest.raises(DataError) as raised:
        tensors(path)
    assert message in raised.value.problem
    assert "\n" not in raised.value.problem
    assert raised.value.remedy


def archive(path, content, records=None, compression=zipfile.ZIP_STORED, folder="archive"):
    """Write a file as torch.save lays it out, with any pickle and records."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{folder}/data.pkl", content)
        file.writestr(f"{folder}/byteorder", "little")
        for name, record in ({"0": RECORD} if records is None else records).items():
            file.writestr(f"{folder}/data/{name}", record)
    return path


class Weight:
    """A tensor in a pickle, as torch describes it."""

    def __init__(self, n=4, offset=0, shape=(4,), strides=(1,), kind=torch.FloatStorage, record="0", tag="storage"):
        self.pid = (tag, kind, record, "cpu", n)
        self.view = (offset, shape, strides)

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Storage(self.pid), *self.view, False, OrderedDict())


class Storage:
    def __init__(self, pid):
        self.pid = pid


class Pickler(pickle._Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


def pickled(value, protocol=2):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# ---- ordinary files


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_read_as_torch_reads_them(tmp_path, dtype):
    saved = {
        "plain": WEIGHT.to(dtype),
        "transposed": WEIGHT.to(dtype).t(),
        "part": WEIGHT.to(dtype)[1:, 2],
        "scalar": torch.tensor(2.0, dtype=dtype),
        "parameter": torch.nn.Parameter(WEIGHT.to(dtype)),
    }
    torch.save(saved, tmp_path / "file.pth")
    read = tensors(tmp_path / "file.pth")
    assert read.keys() == saved.keys()
    for name, tensor in saved.items():
        assert torch.equal(read[name], tensor.detach().float())
        assert read[name].is_contiguous()


def test_a_state_dict_is_read_with_or_without_what_is_saved_with_it(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    wrapped = {f"module.{name}": weight for name, weight in module.state_dict().items()}
    for content in (
        wrapped,
        {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": None},
    ):
        torch.save(content, tmp_path / "file.pth")
        read = tensors(tmp_path / "file.pth")
        assert all(torch.equal(read[name], weight) for name, weight in module.state_dict().items())


class Kind(enum.Enum):
    sequential = 1


class Config:
    """As a framework's: its state has no plain value, and to restore it would run code."""

    def __init__(self):
        self.values, self.kind, self.model, self.kinds = {"lr": 1e-3}, Kind.sequential, Config, [Kind.sequential]

    def __setstate__(self, state):
        raise RuntimeError("this must not run")


class Table(dict):
    pass


class Row(list):
    pass


@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_other_classes_become_placeholders(tmp_path, protocol):
    others = {"config": Config(), "table": Table(a=1), "row": Row([1]), "device": torch.device("cpu")}
    torch.save({"state_dict": {"w": WEIGHT}, **others}, tmp_path / "file.pth", pickle_protocol=protocol)
    assert torch.equal(tensors(tmp_path / "file.pth")["w"], WEIGHT)


# ---- attacks


@pytest.mark.parametrize("protocol", [2, 4], ids=["GLOBAL", "STACK_GLOBAL"])
@pytest.mark.parametrize("attack", ["system", "eval", "exec", "open"])
def test_a_function_that_a_pickle_calls_is_not_run(tmp_path, attack, protocol):
    target = tmp_path / "run"
    call = {
        "system": Call(os.system, f"touch {target}"),
        "eval": Call(builtins.eval, f"open({str(target)!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({str(target)!r}, 'w')"),
        "open": Call(builtins.open, str(target), "w"),
    }[attack]
    content = pickled({"state_dict": {"w": Weight()}, "config": call}, protocol)
    assert torch.equal(tensors(archive(tmp_path / "file.pth", content))["w"], torch.zeros(4))
    assert not target.exists()


def test_the_attacks_would_work_on_an_ordinary_unpickler(tmp_path):
    pickle.loads(pickled(Call(os.system, f"touch {tmp_path / 'run'}")))
    assert (tmp_path / "run").exists()


def text(words):
    return b"X" + struct.pack("<I", len(words)) + words


SYSTEM, TOUCH = b"cposix\nsystem\n", text(b"touch run")
HANDMADE = {
    "a function called by OBJ": b"(" + SYSTEM + TOUCH + b"o",
    "a function called by INST": b"(" + TOUCH + b"iposix\nsystem\n",
    "a method called": b"cbuiltins\ngetattr\n" + SYSTEM + text(b"__call__") + b"\x86R" + TOUCH + b"\x85R",
    "a state given to a result": b"cbuiltins\nexec\n" + text(b"import os; os.system('touch run')") + b"\x85R}b",
    "a state with a function": b"cllm4rec_cli.errors\nRunError\n)\x81}" + text(b"run") + SYSTEM + TOUCH + b"\x85Rsb",
}


@pytest.mark.parametrize("attack", HANDMADE.values(), ids=list(HANDMADE))
def test_handmade_pickles_run_nothing_here_and_something_elsewhere(tmp_path, monkeypatch, attack):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "file.pth", b"\x80\x02" + attack + b"0" + pickled({"w": Weight()})[2:])
    try:
        assert torch.equal(tensors(path)["w"], torch.zeros(4))
    except DataError as error:
        assert "more than tensors and plain containers" in error.problem
    assert not (tmp_path / "run").exists()
    with contextlib.suppress(Exception):
        pickle.loads(b"\x80\x02" + attack + b".")
    assert (tmp_path / "run").exists()


def test_what_a_pickle_does_to_a_placeholder_ends_with_it(tmp_path):
    before = dict(vars(torch_file._Placeholder))
    attack = b"cframework\nConfig\n)\x81}" + text(b"append") + b"Nsb0"
    tensors(archive(tmp_path / "file.pth", b"\x80\x02" + attack + pickled({"w": Weight()})[2:]))
    assert dict(vars(torch_file._Placeholder)) == before


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.",  # 2 GB
        b"\x80\x02ctorch\nTensor\nJ\x00\x00\x00\x7f\x85R.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2^31 entries
        b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00.",  # a bytearray of 2^32 bytes that are not there
        b"\x80\x04\x8e\x00\x00\x00\x00\x01\x00\x00\x00.",  # the same of bytes
        b"\x80\x02N" + b"p99999999999999999999\n.",
        b"",
        b"\x00garbage",
        b"\x80\x02}q\x00.",  # an empty mapping
        b"\x80\x02K\x01.",
    ],
)
def test_a_pickle_without_tensors_is_refused_within_the_memory_of_the_file(tmp_path, content):
    path = archive(tmp_path / "file.pth", content)
    tracemalloc.start()
    refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


FALSE_CLAIMS = {
    "does not fit its 16 bytes": [Weight(n=5), Weight(n=3, shape=(3,)), Weight(n=1 << 40, shape=(1 << 40,))],
    "does not fit": [
        *(Weight(shape=(5,)), Weight(offset=2), Weight(shape=(1 << 40,), strides=(0,))),
        Weight(shape=(2, 2), strides=(1 << 62, 1)),
    ],
    "not tensors: w": [
        *(Weight(shape=(-1,)), Weight(strides=(-1,)), Weight(offset=-1), Weight(shape=(1 << 70,), strides=(0,))),
        *(Weight(shape=(1.0,)), Weight(shape=(4, 1)), Call(OrderedDict)),
    ],
    "w is of type int64": [Weight(kind=torch.LongStorage, n=2, shape=(2,))],
    "cannot be read": [Weight(record="1")],
    "unknown type or name": [Weight(record="../0")],
    "unknown type": [Weight(kind="float32x")],
    "not a storage": [Weight(tag="module"), Weight(kind=dict), Weight(n="4")],
    "impossible size": [Weight(n=-4)],
}


@pytest.mark.parametrize("message", FALSE_CLAIMS)
def test_a_tensor_that_is_not_what_it_claims_is_refused(tmp_path, message):
    for weight in FALSE_CLAIMS[message]:
        refused(archive(tmp_path / "file.pth", pickled({"w": weight})), message)


# ---- archives


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    content, path = pickled({"w": Weight()}), tmp_path / "file.pth"
    refused(archive(path, content, {"0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED), "compressed members")
    refused(archive(path, content, folder="../../tmp"), "0 pickles")
    doubles = ("archive/data/0", RECORD, "two members of one name"), ("other/data.pkl", content, "2 pickles")
    for name, more, message in doubles:
        with warnings.catch_warnings(), zipfile.ZipFile(archive(path, content), "a") as file:
            warnings.simplefilter("ignore")
            file.writestr(name, more)
        refused(path, message)
    big_endian = {"archive/data.pkl": content, "archive/byteorder": "big", "archive/data/0": RECORD}
    for members, message in (({"word/document.xml": ""}, "0 pickles"), (big_endian, "big-endian")):
        with zipfile.ZipFile(path, "w") as file:
            for name, member in members.items():
                file.writestr(name, member)
        refused(path, message)


def test_members_that_overlap_are_refused(tmp_path):
    """Two directory entries for one record, so that the content is larger than the file."""
    records = {"0": bytes(4000), "1": b""}
    path = archive(tmp_path / "file.pth", pickled({"w": Weight()}), records)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"archive/data/1") - 46  # in the central directory
    first = raw.rindex(b"archive/data/0") - 46
    for at, size in ((20, 4), (24, 4), (42, 4)):  # compressed size, size, offset
        raw[entry + at : entry + at + size] = raw[first + at : first + at + size]
    path.write_bytes(raw)
    refused(path, "overlap")


def test_damaged_files_other_formats_and_values_that_are_not_finite_are_named(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"w": WEIGHT}, path)
    whole = path.read_bytes()
    at = whole.index(WEIGHT.numpy().tobytes())
    moved = bytearray(archive(path, pickled({"w": Weight()})).read_bytes())
    end = moved.rindex(b"PK\x05\x06") + 16  # where the end record says that the directory begins
    moved[end : end + 4] = struct.pack("<I", 100_000)
    for content, message in (
        (whole[: len(whole) // 2], "incomplete"),
        (b"", "incomplete"),
        (b"<html>quota exceeded</html>", "not a file that torch.save wrote"),
        (whole[:at] + struct.pack("<f", 7.0) + whole[at + 4 :], "Bad CRC-32"),
        (bytes(moved), "archive/byteorder cannot be read"),
    ):
        path.write_bytes(content)
        refused(path, message)
    torch.save({"w": WEIGHT}, path, _use_new_zipfile_serialization=False)
    refused(path, "torch before 1.6")
    torch.save({"w": torch.tensor([1.0, float("nan")])}, path)
    refused(path, "w has values that are not finite")
    path.unlink()
    refused(path, "does not exist")
