"""Run the mapped network of this folder on SANA-FE's model of Loihi.

Needs `sanafe` (GPL-3.0) and NumPy. `python simulate.py --input data.npz --output result.npz`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sanafe

HERE = Path(__file__).parent
#: Input units that SANA-FE's Loihi has on each core.
UNITS = 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="one array [sample, step, neuron] an input")
    parser.add_argument("--output", required=True, help="gets spikes, energy and time")
    parser.add_argument("--extra-steps", type=int, default=0, help="silent steps at the end")
    options = parser.parse_args()
    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    with np.load(HERE / "parameters.npz") as arrays, np.load(options.input) as data:
        parameters = {name: arrays[name] for name in arrays.files}
        inputs = {item["name"]: data[item["name"]] for item in network["inputs"]}
    samples, steps = next(iter(inputs.values())).shape[:2]
    runs = []
    for sample in range(samples):
        sent = {name: values[sample].reshape(steps, -1) for name, values in inputs.items()}
        runs.append(simulate(network, parameters, sent, steps + options.extra_steps))
    result = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    np.savez(options.output, **result)


def simulate(network, parameters, sent, steps):
    """Return the spikes of every population, energy in joules and time in seconds."""
    arch = sanafe.load_loihi()
    cores = [core for tile in arch.tiles for core in tile.cores]
    net = sanafe.Network()
    groups = {}
    place = 0
    for index, item in enumerate(network["inputs"]):
        group = groups[item["name"]] = net.create_neuron_group(f"input{index}", item["size"])
        for neuron, spikes in zip(group, sent[item["name"]].T):
            core, unit = network["input_cores"][place // UNITS], place % UNITS
            neuron.set_attributes(
                soma_hw_name=f"loihi_inputs[{unit}]",
                model_attributes={"spikes": [int(value) for value in spikes]},
            )
            neuron.map_to_core(cores[core])
            place += 1
    for index, item in enumerate(network["populations"]):
        groups[item["name"]] = population(net, cores, parameters, index, item)
    for index, item in enumerate(network["connections"]):
        pairs = zip(parameters[f"c{index}/source"].tolist(), parameters[f"c{index}/target"].tolist())
        weights = {"weight": parameters[f"c{index}/weight"].astype(float).tolist()}
        groups[item["source"]].connect_neurons_sparse(groups[item["target"]], weights, list(pairs))
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    run = chip.sim(steps, spike_trace=True)
    result = {
        f"{item['name']}/spikes": np.zeros((steps, item["size"]), np.uint8)
        for item in network["populations"]
    }
    names = {f"population{index}": item["name"] for index, item in enumerate(network["populations"])}
    for step, spikes in enumerate(run["spike_trace"]):
        for spike in spikes:
            if spike.group_name in names:
                result[f"{names[spike.group_name]}/spikes"][step, spike.neuron_offset] = 1
    result.update({f"energy/{part}": np.float64(joules) for part, joules in run["energy"].items()})
    result["time"] = np.float64(run["sim_time"])
    return result


def population(net, cores, parameters, index, item):
    """Return a group of leaky integrate-and-fire neurons on their cores."""
    group = net.create_neuron_group(
        f"population{index}",
        item["size"],
        soma_hw_name="loihi_lif",
        default_synapse_hw_name=item["synapses"],
        log_spikes=True,
    )
    values = {
        name: parameters[f"p{index}/{name}"].tolist()
        for name in ("threshold", "leak_decay", "input_decay", "bias", "reset", "core")
    }
    for place, neuron in enumerate(group):
        mine = {name: values[name][place] for name in values if name != "core"}
        neuron.set_attributes(
            model_attributes={**mine, "reset_mode": item["reset_mode"], "force_update": True}
        )
        neuron.map_to_core(cores[values["core"][place]])
    return group


if __name__ == "__main__":
    main()
