"""Records of timings: what they are called."""

from s3prl_attention.benchmark import environment, stopwatch


def test_times_are_known_by_gpu_pytorch_and_the_way_of_linear_layers(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    known = {stopwatch.machine_of("cpu"), stopwatch.machine_of("cuda")}
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        for name in ("A100", "V100"):
            patch.setattr("torch.cuda.get_device_name", lambda device, name=name: name)
            known.add(stopwatch.machine_of("cuda"))
    for other in (True, False):
        monkeypatch.setattr(stopwatch, "worthwhile", lambda other=other: other)
        known.add(stopwatch.machine_of("cpu"))
    monkeypatch.setattr(environment, "_version", lambda package: "9.9")
    known.add(stopwatch.machine_of("cpu"))
    assert len(known) == 6  # one of the two ways is that of this machine
