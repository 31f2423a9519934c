"""Installs PyTorch for the CPU into an environment of its own, with the standard library only.

Usage: torch_setup.py [FOLDER]    prints the interpreter; FOLDER defaults to target/python/torch

Linux wheels of the package index bring code for CUDA, which asks for 3 GB of libraries when it is loaded and
never calls them on the CPU. They are not downloaded: a small library of stand-ins takes their place, whose
functions all answer "no device". The code for the CPU is that of the wheel, unchanged.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = pathlib.Path(__file__).with_name("torch_requirements.txt")
# Libraries and versions of symbols that every Linux has or the wheel brings.
SYSTEM = re.compile(r"ld-linux|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so")
SYSTEM_VERSIONS = re.compile(r"GLIBC|CXXABI|GCC|G?OMP")
SYSTEM_SYMBOLS = re.compile(r"_?Py|_Z")


def output(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def works(python):
    """Whether PyTorch can be loaded."""
    command = [python, "-c", "import torch"]
    return subprocess.run(command, capture_output=True, cwd="/").returncode == 0


def missing(libraries):
    """Names of absent libraries, and absent symbols by version, over all libraries of a folder."""
    needed, wanted, defined = set(), {}, set()
    for library in sorted(libraries.glob("lib*.so")):
        if library.name == "libcaffe2_nvrtc.so":  # loaded on demand only
            continue
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-dW", str(library))))
        for line in output("nm", "-D", str(library)).splitlines():
            *_, kind, symbol = line.split()
            name, _, version = symbol.replace("@@", "@").partition("@")
            if kind == "U":
                wanted.setdefault(name, version)
            else:
                defined.add(name)
    names = [name for name in sorted(needed) if not SYSTEM.match(name)]
    groups = {}
    for name, version in sorted(wanted.items()):
        if name not in defined and not SYSTEM_VERSIONS.match(version) and not SYSTEM_SYMBOLS.match(name):
            groups.setdefault(version, []).append(name)
    return [name for name in names if not (libraries / name).exists()], groups


def add_stand_ins(libraries):
    """Compiles one library with every absent symbol and links all absent names to it."""
    names, groups = missing(libraries)
    if not names:
        raise SystemExit("PyTorch does not load, and no library is missing")
    with tempfile.TemporaryDirectory() as folder:
        source, versions = pathlib.Path(folder, "stand_ins.c"), pathlib.Path(folder, "versions.map")
        no_device = 100
        functions = (f"int {name}(void) {{ return {no_device}; }}\n" for group in groups.values() for name in group)
        source.write_text("".join(functions))
        nodes = (f"{version} {{ global: {'; '.join(group)}; }};\n" for version, group in groups.items() if version)
        versions.write_text("".join(nodes))
        target = libraries / "libstand_ins.so"
        options = ["-shared", "-fPIC", "-fno-builtin", "-w", f"-Wl,--version-script={versions}"]
        subprocess.run(["cc", *options, "-o", str(target), str(source)], check=True)
    for name in names:
        (libraries / name).symlink_to(target.name)


def interpreter(folder=ROOT / "target" / "python" / "torch"):
    """Path of a Python that can import the pinned PyTorch; installs it when it is not there."""
    python = pathlib.Path(folder, "bin", "python")
    stamp, wanted = pathlib.Path(folder, "installed.txt"), REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"installing PyTorch into {folder}", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS)], check=True)
    if not works(str(python)):
        packages = output(str(python), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip()
        add_stand_ins(pathlib.Path(packages, "torch", "lib"))
    if not works(str(python)):
        raise SystemExit(f"PyTorch does not load: try {python} -c 'import torch'")
    stamp.write_text(wanted)
    return str(python)


if __name__ == "__main__":
    print(interpreter(*sys.argv[1:]))
