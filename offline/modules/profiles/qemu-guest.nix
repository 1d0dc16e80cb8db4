# The virtio drivers of a QEMU guest, for the initial ramdisk.
{
  boot.initrd.availableKernelModules = [
    "virtio_pci"
    "virtio_blk"
    "virtio_net"
    "virtio_rng"
    "virtio_console"
  ];
}
