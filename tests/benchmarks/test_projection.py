from benchmarks import projection
from gancore.catalog.catalog import Catalog
from helpers.small_runs import recorded


def test_table_compares_found_latents_with_random_samples(tmp_path, capsys):
    parts = {"generator": "mlp", "discriminator": "mlp", "dataset": "digits", "latent": {"dim": 3}}
    recorded(tmp_path / "run", parts, {"duration": "2 steps"}, known=Catalog.installed())
    projection.main([str(tmp_path / "run"), "--images", "2"])
    header, line, own, of_data = capsys.readouterr().out.splitlines()
    assert header.count("|") == line.count("|") == own.count("|") == of_data.count("|") == 5
    assert own.startswith("| its own samples | ")
    assert of_data.startswith("| digits, ")
