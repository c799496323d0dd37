"""The real runtime: containers, networks, images and volumes of one Docker daemon.

Everything that Toolkeeper says to Docker is said here; its own things are known by their labels and names alone, and
what bears neither is never touched.
"""
