"""What real machines show of themselves, shortened to the lines that matter, and folders that look like them."""

from __future__ import annotations

from pathlib import Path

EPYC = """\
processor\t: {number}
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
physical id\t: 0
siblings\t: 2
core id\t\t: {core}
cpu cores\t: 2
flags\t\t: fpu sse sse2 ht avx f16c avx2 fma avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16 \
avx512vbmi avx512_vbmi2 gfni avx512_vnni avx512_bitalg avx512_vpopcntdq fsrm
bogomips\t: 5192.26

"""
SAPPHIRE_RAPIDS = """\
processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
physical id\t: 0
siblings\t: 8
core id\t\t: {core}
cpu cores\t: 4
flags\t\t: fpu sse2 ht avx f16c avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl avx_vnni avx512_bf16 avx512vbmi \
avx512_vbmi2 avx512_vnni avx512_bitalg amx_bf16 avx512_fp16 amx_tile amx_int8 arch_capabilities
bogomips\t: 5399.99

"""
HASWELL = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse2 ht avx f16c avx2 fma

"""
GRAVITON_3 = """\
processor\t: {number}
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 \
sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1

"""
M2 = """\
hw.ncpu: 8
hw.activecpu: 8
hw.perflevel0.physicalcpu: 4
hw.perflevel0.logicalcpu: 4
hw.perflevel1.physicalcpu: 4
hw.perflevel1.logicalcpu: 4
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.AdvSIMD: 1
hw.physicalcpu: 8
hw.physicalcpu_max: 8
hw.logicalcpu: 8
hw.memsize: 17179869184
machdep.cpu.cores_per_package: 8
machdep.cpu.brand_string: Apple M2
"""
SMI = """\
0, NVIDIA H100 80GB HBM3, GPU-2f8bd5a1-9f9e-3d1f-6a57-7a1f4f6c1c11, 81559, 1234, 550.90.07, 9.0
1, NVIDIA H100 80GB HBM3, GPU-63feeb45-94c6-b9cb-78ea-98e9b7a5be6b, [N/A], [N/A], 550.90.07, 9.0
"""
SMI_LIST = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-2f8bd5a1-9f9e-3d1f-6a57-7a1f4f6c1c11)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-63feeb45-94c6-b9cb-78ea-98e9b7a5be6b)
  MIG 3g.40gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1c.2g.20gb  Device  1: (UUID: MIG-41b3359c-e721-56e5-8009-12e5797ed514)
"""
NO_DRIVER = """\
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver \
is installed and running.
"""
ROCM = '{"card0": {"Card Series": "AMD Instinct MI300X", "Card Model": "0x74a1", "Card Vendor": "AMD"}}'


def cpuinfo(block: str, threads: int, *, per_core: int = 1) -> str:
    """A file of so many processors; those of one core are half of them apart, as on most servers."""
    cores = threads // per_core
    return "".join(block.format(number=number, core=number % cores) for number in range(threads))


def put(root: Path, **files: str) -> None:
    """Files by their path, in which `__` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def card(root: Path, place: str, driver: str = "", **files: str) -> Path:
    """A device on the bus."""
    folder = root / "sys/bus/pci/devices" / place
    put(folder, **files)
    if driver:
        target = root / "sys/bus/pci/drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(target)
    return folder
