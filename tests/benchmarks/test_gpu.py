from benchmarks import gpu

OPTIONS = ["--data", "pictures", "--data-dir", "data", "--work", "work", "--out", "gpu"]


def test_gpu_sections_end_within_fifteen_minutes():
    limits = [limit for _, _, limit in gpu.commands(gpu.parse(OPTIONS))]
    assert sum(limits) <= 15 * 60


def test_gpu_report_has_each_section_even_of_a_command_that_fails_or_is_ended(tmp_path):
    options = gpu.parse([*OPTIONS[:4], "--work", str(tmp_path / "work"), "--out", str(tmp_path / "gpu")])
    commands = {
        "good": ["-c", "print('all good')"],
        "bad": ["-c", "import sys; sys.exit('no such thing')"],
        "endless": ["-c", "import time; print('begun', flush=True); time.sleep(60)"],
    }
    sections = [gpu.run(name, command, 2.0, options) for name, command in commands.items()]
    text = gpu.page(sections, "the CPU")
    for name, result in {"good": "ok", "bad": "exit code 1", "endless": "time limit"}.items():
        assert f"| {name} | {result} |" in text
    assert all(printed in text for printed in ("all good", "no such thing", "begun"))


def test_gpu_speed_is_that_of_a_log_without_its_first_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert gpu.images_per_second(log) is None
    log.write_text("".join(f'{{"step": {step}, "images_per_second": {step}}}\n' for step in (1, 5, 7, 9)))
    assert gpu.images_per_second(log) == 7


def test_gpu_report_is_written_to_a_folder_that_does_not_exist_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "commands", lambda options: [("good", ["-c", "print('all good')"], 60.0)])
    out = tmp_path / "new" / "gpu"
    gpu.main([*OPTIONS[:4], "--work", str(tmp_path / "work"), "--out", str(out), "--device", "cpu"])
    assert "| good | ok |" in out.with_suffix(".md").read_text()
