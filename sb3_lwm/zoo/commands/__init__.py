"""The commands of this package: ``python -m sb3_lwm.zoo <command>`` runs the module of this name as a program."""
