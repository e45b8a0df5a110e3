import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.utils.random import GlobalRandomness, derive_seed, generator_for, seeded

seeds = st.integers(0, 2**32 - 1)
CPU = torch.device("cpu")


@given(seeds, st.lists(st.text(max_size=3) | st.integers(), max_size=3))
def test_stream_is_a_pure_function_of_seed_and_name(seed, stream):
    assert derive_seed(seed, *stream) == derive_seed(seed, *stream)
    assert 0 <= derive_seed(seed, *stream) < 2**63
    assert derive_seed(seed, *stream) != derive_seed(seed + 1, *stream)
    first, second = (torch.rand(3, generator=generator_for(seed, *stream)) for _ in range(2))
    assert torch.equal(first, second)


@given(seeds)
def test_streams_differ(seed):
    values = [torch.rand((), generator=generator_for(seed, name)).item() for name in ("order", "noise", "global")]
    assert len(set(values)) == 3


@given(seeds)
def test_seeded_block_leaves_the_outer_stream_unchanged(seed):
    before = torch.get_rng_state()
    with seeded(seed):
        first = torch.rand(2)
    with seeded(seed):
        second = torch.rand(2)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@given(seeds)
def test_global_randomness_of_a_run_is_independent_of_other_draws(seed):
    def drawn(between):
        own = GlobalRandomness(seed, CPU)
        for _ in range(3):
            with own.lent():
                yield torch.rand(()).item()
            between()

    assert list(drawn(lambda: None)) == list(drawn(lambda: torch.rand(7)))
    assert len(set(drawn(lambda: None))) == 3
