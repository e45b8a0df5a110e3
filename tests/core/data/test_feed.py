import gc
import json
import os
import re
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from gancore.data.feed import Feed, epoch_order
from gancore.distributed.ranks import Ranks
from gancore.errors import DataError, PluginError
from gancore.sampling.load import described_data
from gancore.utils import memory
from gancore.utils.sample_format import UINT8

CPU = torch.device("cpu")
small = st.integers(1, 40)
sizes = st.tuples(small, small).map(lambda pair: (max(pair), min(pair)))  # dataset size, batch size


class Listed(Dataset):
    """A map-style dataset without `__getitems__`, as most users write it."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def numbered(count):
    """`count` images; image i is filled with i and has label i."""
    return TensorDataset(torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.arange(count))


def feed(dataset, batch_size=4, seed=0, **options):
    return Feed(dataset, batch_size=batch_size, seed=seed, device=CPU, **options)


def labels(batches, count):
    return [next(batches).condition.tolist() for _ in range(count)]


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6), size=small)
def test_epoch_order_is_a_permutation_and_a_pure_function(seed, epoch, size):
    order = epoch_order(seed, epoch, size)
    assert sorted(order.tolist()) == list(range(size))
    assert torch.equal(order, epoch_order(seed, epoch, size))


@given(seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_epoch_order_depends_on_seed_and_epoch(seed, epoch):
    order = epoch_order(seed, epoch, 50)
    assert not torch.equal(order, epoch_order(seed + 1, epoch, 50))
    assert not torch.equal(order, epoch_order(seed, epoch + 1, 50))


@given(sizes, st.integers(1, 3))
def test_epoch_has_each_image_once_and_ends_with_the_short_batch(sizes, epochs):
    size, batch_size = sizes
    batches = feed(numbered(size), batch_size).batches(0)
    for _ in range(epochs):
        seen = labels(batches, -(-size // batch_size))
        assert [len(batch) for batch in seen[:-1]] == [batch_size] * (len(seen) - 1)
        assert sorted(label for batch in seen for label in batch) == list(range(size))


@given(sizes, st.integers(0, 20))
def test_feed_continues_from_images_seen(sizes, position):
    size, batch_size = sizes
    batches = feed(numbered(size), batch_size).batches(0)
    images_seen = sum(len(batch) for batch in labels(batches, position))
    assert labels(feed(numbered(size), batch_size).batches(images_seen), 5) == labels(batches, 5)


@pytest.mark.parametrize("data", ["device", "stream"])
@pytest.mark.parametrize("images_seen", [0, 8])
def test_batch_total_counts_the_images_of_all_ranks(data, images_seen):
    ranks = [feed(numbered(11), data=data, ranks=Ranks(rank, 3, rank, 3)).batches(images_seen) for rank in range(3)]
    totals = []
    for _ in range(4):
        parts = [next(batches) for batches in ranks]
        assert {part.total for part in parts} == {sum(len(part.images) for part in parts)}
        totals.append(parts[0].total)
    assert totals == ([4, 4, 3, 4] if images_seen == 0 else [3, 4, 4, 3])


def test_batch_total_is_the_batch_length_with_one_rank():
    batches = feed(numbered(11)).batches(0)
    assert all(batch.total == len(batch.images) for batch in (next(batches) for _ in range(4)))


@pytest.mark.parametrize("workers", [0, 2])
def test_feed_streams_the_same_batches_as_from_the_device(workers):
    kept, streamed = feed(numbered(11)), feed(numbered(11), data="stream", workers=workers)
    first, second = kept.batches(4), streamed.batches(4)
    for _ in range(7):
        ours, theirs = next(first), next(second)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.condition, theirs.condition)


class ProcessIds(Listed):
    """The label of an item is the id of the process that read it."""

    def __init__(self):
        super().__init__(torch.zeros(8, 1, 1, 1, dtype=torch.uint8))

    def __getitem__(self, index):
        return self.items[index], os.getpid()


def test_workers_live_longer_than_an_epoch():
    batches = feed(ProcessIds(), data="stream", workers=2).batches(0)
    seen = {label for read in labels(batches, 20) for label in read}
    assert len(seen) == 2
    assert os.getpid() not in seen


def test_feed_memory_limit_is_per_process_of_the_machine():
    alone, crowded = (feed(numbered(8), data="auto", ranks=Ranks(0, 2, 0, local_size)) for local_size in (1, 10**12))
    assert alone._on_device is not None
    assert crowded._on_device is None


def test_feed_memory_limit_is_that_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    for limit, is_kept in [("max", True), ("64", False), ("1000000000", True)]:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert (feed(numbered(8), data="auto")._on_device is not None) is is_kept
    (tmp_path / "memory.current").write_text("999999000\n")
    assert memory.free_memory(torch.device("cpu")) == 1000
    (tmp_path / "memory.stat").write_text("anon 7\nfile 600\ninactive_file 400\nactive_file 100\n")
    assert memory.free_memory(torch.device("cpu")) == 1500


def test_fingerprint_of_very_many_items_reads_the_last_one():
    data = TensorDataset(torch.zeros(20_000_000, 1, dtype=torch.uint8))
    before = feed(data, data="stream").fingerprint
    data.tensors[0][-1] = 1
    assert feed(data, data="stream").fingerprint != before


@pytest.fixture
def frozen():
    """Leave all objects that there are already out of garbage collections, which they make slow."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("data", ["device", "stream"])
def test_feed_memory_does_not_grow_with_epochs(data):
    """Check Python objects by size, and tensors by number, since tracemalloc does not see their memory."""
    size = 4000
    images = TensorDataset(torch.zeros(size, 1, 1, 1, dtype=torch.uint8), torch.arange(size))
    batches = feed(images, size // 4, data=data).batches(0)

    def memory_after(epochs):
        for _ in range(4 * epochs):
            next(batches)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], sum(
            issubclass(type(each), torch.Tensor) for each in gc.get_objects()
        )

    tracemalloc.start()
    (early, first), (late, last) = memory_after(4), memory_after(8)
    tracemalloc.stop()
    assert last < first + 8  # at most the batches of two epochs
    assert late - early < 8 * size  # less than one list of indices for eight epochs


def test_feed_streaming_does_not_use_the_global_generator():
    before = torch.get_rng_state()
    next(feed(numbered(11), data="stream").batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_keeps_image_and_label_together():
    batch = next(feed(numbered(200), 200).batches(0))
    assert torch.equal(UINT8.to_stored(batch.images).flatten().long(), batch.condition)


def test_feed_leaves_vectors_unchanged():
    vectors = torch.randn(6, 2)
    batch = next(feed(TensorDataset(vectors, torch.zeros(6).long()), 6).batches(0))
    assert torch.equal(batch.images, vectors[epoch_order(0, 0, 6)])


def test_feed_labels_unlabeled_images_as_zero():
    batch = next(feed(Listed([torch.zeros(1, 2, 2, dtype=torch.uint8)] * 3), 3).batches(0))
    assert batch.condition.tolist() == [0, 0, 0]


def test_feed_condition_is_the_number_of_classes():
    dataset = numbered(3)
    assert feed(dataset, 3).condition is None
    dataset.classes = ("a", "b", "c")
    assert feed(dataset, 3).condition == 3


uint8 = torch.uint8


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "at least one image"),
        ([torch.zeros(1, 2, 2, dtype=torch.int64)], "must be uint8 in 0..255 or float32.*received int64 of shape"),
        ([torch.zeros(1, 2, 2, dtype=torch.float16)], "must be uint8.*received float16 of shape"),
        ([torch.zeros((), dtype=uint8)], "at least one dimension"),
        ([torch.zeros(3, dtype=torch.float64)], "float32"),
        ([torch.zeros(1, 0, 2, dtype=uint8)], "at least one value"),
        ([torch.zeros(2), torch.tensor([1.0, float("nan")])], "number 1"),
        ([torch.zeros(1, 2, 2, dtype=uint8), torch.zeros(1, 2, 3, dtype=uint8)], "one shape"),
        (["a picture"], "PILToTensor|tensor"),
    ],
)
def test_feed_rejects_invalid_items_and_shows_what_was_received(items, words):
    with pytest.raises(DataError, match=words):
        feed(Listed([(item, 0) for item in items]))


def test_rest_of_an_epoch_with_too_few_images_for_all_processes_is_refused():
    both = feed(numbered(10), 5, ranks=Ranks(0, 2, 0, 2))
    both.check_rest(0)
    both.check_rest(12)
    with pytest.raises(DataError, match="batches of 5 leave a last one of 1 for 2 processes"):
        both.check_rest(4)


@pytest.mark.parametrize("data", ["device", "stream"])
def test_batch_size_larger_than_the_dataset_is_rejected(data):
    with pytest.raises(DataError, match=r"batch_size 4 is larger than the dataset \(3 images\)") as caught:
        feed(numbered(3), data=data)
    assert "--batch-size 3" in caught.value.hint
    assert len(next(feed(numbered(4), data=data).batches(0)).images) == 4


def test_labels_outside_of_the_classes_are_rejected():
    dataset = numbered(5)
    dataset.classes = ("a", "b")
    with pytest.raises(DataError, match=r"0\.\.1.*0\.\.4"):
        feed(dataset)


def test_labels_outside_of_the_classes_are_rejected_while_streaming():
    dataset = numbered(5)
    dataset.classes = ("a", "b")
    with pytest.raises(DataError, match=r"0\.\.1"):
        for _, _ in zip(range(2), feed(dataset, data="stream").batches(0), strict=False):
            pass


def test_feed_reads_a_dataset_of_one_tensor():
    batch = next(feed(TensorDataset(torch.randn(4, 2))).batches(0))
    assert batch.images.shape == (4, 2)
    assert batch.condition.tolist() == [0] * 4


@pytest.mark.parametrize("data", ["device", "stream"])
def test_feed_uses_an_overridden_getitem(data):
    class Brightened(TensorDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image + 100, label

    dataset = Brightened(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.zeros(4).long())
    assert UINT8.to_stored(next(feed(dataset, data=data).batches(0)).images).unique().tolist() == [100]


@pytest.mark.parametrize("condition", [None, "cat", [0.5], {}])
def test_condition_must_be_a_number_or_a_tensor(condition):
    with pytest.raises(DataError, match="the condition of an item must be an int, a float or a tensor; received"):
        feed(Listed([(torch.zeros(1, 2, 2, dtype=uint8), condition)]))


def test_condition_may_be_a_number_of_numpy():
    items = [(torch.zeros(1, 2, 2, dtype=uint8), np.float32(0.5))] * 4
    assert feed(Listed(items)).condition == (1,)


def test_label_in_an_array_is_refused_with_how_to_make_it_a_number():
    data = Listed([(torch.zeros(1, 2, 2, dtype=uint8), np.array([1]))] * 4)
    with pytest.raises(DataError) as error:
        feed(data)
    assert error.value.hint == "convert a label with label.item()"
    data = Listed([(torch.zeros(1, 2, 2, dtype=uint8), torch.tensor([1]))] * 4)
    data.classes = ("cat", "dog")
    with pytest.raises(DataError, match="must have an int as the condition") as error:
        feed(data)
    assert "label.item()" in error.value.hint


@pytest.mark.parametrize("condition", [torch.tensor([0, 1]), torch.zeros(0), torch.zeros(2).double()])
def test_condition_tensor_must_be_uint8_or_float32(condition):
    with pytest.raises(DataError, match=r"tensors as conditions must be uint8 in 0\.\.255 or float32; received"):
        feed(Listed([(torch.zeros(1, 2, 2, dtype=uint8), condition)]), 1)


FORM = (torch.zeros(1, 2, 2, dtype=uint8), torch.zeros(3))
OTHER_FORMS = {
    "a float sample": (torch.zeros(1, 2, 2), torch.zeros(3)),
    "a uint8 condition": (FORM[0], torch.zeros(3, dtype=uint8)),
    "a larger sample": (torch.zeros(1, 2, 3, dtype=uint8), torch.zeros(3)),
    "a larger condition": (FORM[0], torch.zeros(4)),
    "a label": (FORM[0], 1),
}


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("data", ["device", "stream"])
@pytest.mark.parametrize("other", OTHER_FORMS)
def test_items_of_another_form_than_the_first_are_rejected(other, data, batch_size):
    """torch would convert uint8 to float32 without mapping it to [-1, 1]."""
    dataset = Listed([FORM, *[OTHER_FORMS[other]] * 3])
    with pytest.raises(DataError, match=r"all (samples|conditions) of a dataset must have"):
        list(islice(feed(dataset, batch_size, data=data).batches(0), 4))


@pytest.mark.parametrize(("classes", "item"), [(("a", "b"), FORM), ((), (FORM[0], 0))])
def test_first_condition_is_checked_against_the_classes_while_streaming(classes, item):
    dataset = Listed([item] * 4)
    dataset.classes = classes
    with pytest.raises(DataError, match="classes"):
        feed(dataset, data="stream")


@pytest.mark.parametrize("workers", [0, 1])
def test_items_that_require_a_gradient_are_detached(workers):
    """A worker process cannot send them: its batches would never arrive."""
    dataset = Listed([(torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True))] * 4)
    batch = next(feed(dataset, data="stream", workers=workers).batches(0))
    assert not batch.images.requires_grad
    assert not batch.condition.requires_grad


@pytest.mark.parametrize("data", ["device", "stream"])
def test_dataset_failure_is_reported_as_its_plugin_error(data):
    class Failing(Listed):
        def __getitem__(self, index):
            if index == 3:
                raise OSError("the disk failed")
            return super().__getitem__(index)

    items = [torch.zeros(1, 2, 2, dtype=uint8)] * 5
    with pytest.raises(PluginError, match=r"the dataset failed: OSError.*disk failed"):
        for _ in zip(range(3), feed(Failing(items), data=data).batches(0), strict=False):
            pass
    with pytest.raises(DataError, match="a dataset must be map-style, with __len__ and __getitem__; received object"):
        feed(object())


def test_classes_may_be_an_array_of_names():
    data = Listed([(torch.zeros(1, 2, 2, dtype=torch.uint8), 1)] * 5)
    data.classes = np.array(["cat", "dog"])
    assert feed(data).classes == ("cat", "dog")


@pytest.mark.parametrize("classes", [4, "cats", True, {0: "cat", 1: "dog"}, {"cat", "dog"}])
def test_classes_must_be_a_sequence_of_names(classes):
    data = Listed([torch.zeros(1, 2, 2, dtype=torch.uint8)] * 5)
    data.classes = classes
    with pytest.raises(DataError, match=f"must be a tuple of class names.*received {re.escape(repr(classes))}"):
        feed(data)


class Jittered(Listed):
    """Each read of an item draws new random numbers."""

    def __getitem__(self, index):
        return torch.randint(0, 256, (1, 2, 2), dtype=torch.uint8)


def test_dataset_randomness_depends_on_the_seed_only_when_kept_on_the_device():
    def read(seed):
        jittered = feed(Jittered(range(10)), data="device", seed=seed)
        return jittered.fingerprint, next(jittered.batches(0)).images

    torch.manual_seed(1)
    first, before = read(0), torch.get_rng_state()
    torch.manual_seed(2)
    second, other = read(0), read(1)
    assert first[0] == second[0] != other[0]
    assert torch.equal(first[1], second[1])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is not used"


def test_dataset_stop_iteration_does_not_end_the_data():
    class Exhausted(Listed):
        def __getitem__(self, index):
            return torch.zeros(1, 2, 2, dtype=torch.uint8) if index != 1500 else next(iter(()))

    with pytest.raises(PluginError, match="StopIteration was raised while an item was read"):
        feed(Exhausted(range(3000)), data="device")


def test_dataset_randomness_depends_on_the_batch_position_only():
    def images(images_seen, count, workers, seed=0):
        batches = feed(Jittered(range(10)), data="stream", workers=workers, seed=seed).batches(images_seen)
        return [next(batches).images for _ in range(count)]

    torch.manual_seed(1)
    whole = images(0, 6, workers=0)  # batches of 4, 4, 2, 4, 4, 2
    torch.manual_seed(2)
    for others in (images(0, 6, workers=2), images(8, 4, workers=0), images(8, 4, workers=1)):
        assert all(map(torch.equal, whole[-len(others) :], others))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], whole[3]), "another epoch"
    assert not torch.equal(whole[0], images(0, 1, workers=0, seed=1)[0])


def test_scales_and_columns_are_in_the_description_that_checkpoints_keep():
    table = TensorDataset(torch.tensor([[20.0, 30_000.0], [40.0, 50_000.0]]))
    table.scales, table.columns = ([30.0, 40_000.0], [10.0, 10_000.0]), ["age", "income"]
    data = feed(table, batch_size=2)
    assert next(data.batches(0)).images.abs().tolist() == [[1.0, 1.0]] * 2
    about = data.describe(data.spec(4, conditional=False))
    assert about["columns"] == ["age", "income"]
    assert about["scales"] == {"shape": [2], "means": [30.0, 40_000.0], "stds": [10.0, 10_000.0]}
    spec, sample_format = described_data(json.loads(json.dumps(about)), 4)
    assert (spec.bounded, sample_format) == (False, data.format)


@pytest.mark.parametrize("columns", ["ab", ("age",), (1, 2), 5], ids=str)
def test_columns_must_be_a_name_for_each_value(columns):
    table = TensorDataset(torch.zeros(4, 2))
    table.columns = columns
    with pytest.raises(
        DataError, match="`columns` of a dataset must be a name for each value of its vectors; received"
    ):
        feed(table)


def test_fingerprint_depends_on_scales():
    tables = [TensorDataset(torch.zeros(4, 1)) for _ in range(2)]
    tables[1].scales = [0.0], [1.0]
    assert feed(tables[0]).fingerprint != feed(tables[1]).fingerprint


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100), st.integers(0, 12))
def test_feed_counts_images_after_batches_as_batches_do(size, batch_size, images_seen, count):
    batch_size = min(size, batch_size)
    dataset = TensorDataset(torch.zeros(size, 1, 1, 1, dtype=torch.uint8))
    feed = Feed(dataset, batch_size=batch_size, seed=0, device=torch.device("cpu"))
    counted = images_seen
    for batch in islice(feed.batches(images_seen), count):
        counted += batch.total
    assert feed.images_after(images_seen, count) == counted
