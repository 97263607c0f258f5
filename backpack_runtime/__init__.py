"""Drives backpack_proto over real sockets."""
