"""Collectives over n members in PyTorch: inputs and outputs are named `<member>.<port>`."""
import torch
import torch.nn.functional as F


def over_members(body):
    """An oracle from a function of each port's tensors by member, which gives each port's results by member."""

    def oracle(attrs, i):
        size = attrs["size"]
        ports = {name.split(".")[1] for name in i}
        results = body(attrs, {port: [i[f"{member}.{port}"] for member in range(size)] for port in ports})
        return {f"{member}.{port}": values[member] for port, values in results.items() for member in range(size)}

    return oracle


def cross_entropy_parallel(attrs, i):
    """Every member's logits side by side; its targets count from its own part."""
    width = i["logits"][0].shape[1]
    # A target of member 0 is the one over the whole vocabulary: its part begins at 0.
    targets = i["targets"][0]
    for member, own in enumerate(i["targets"]):
        assert torch.equal((own + member * width) % 2**32, targets), "members have different targets"
    logits = torch.cat(i["logits"], dim=1)
    weights = i["weights"][0]
    counted = weights != 0
    loss = weights * F.cross_entropy(logits, torch.where(counted, targets, torch.tensor(-100)), reduction="none")
    size = attrs["size"]
    return {"loss": [loss] * size, "lse": [torch.logsumexp(logits, -1)] * size}


ORACLES = {
    "all_reduce": over_members(lambda attrs, i: {"y": [torch.stack(i["x"]).sum(0)] * attrs["size"]}),
    "reduce_scatter": over_members(lambda attrs, i: {"y": torch.stack(i["x"]).sum(0).chunk(attrs["size"])}),
    "all_gather": over_members(lambda attrs, i: {"y": [torch.cat(i["x"])] * attrs["size"]}),
    "all_to_all": over_members(
        lambda attrs, i: {
            "y": [torch.cat([x.chunk(attrs["size"])[member] for x in i["x"]]) for member in range(attrs["size"])]
        }
    ),
    "rank_broadcast": over_members(lambda attrs, i: {"y": [i["x"][attrs["root"]]] * attrs["size"]}),
    "cross_entropy_parallel": over_members(cross_entropy_parallel),
}
