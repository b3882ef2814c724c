"""The paper's tables and figures, each as one command: `python -m experiments.bandits`, …"""
