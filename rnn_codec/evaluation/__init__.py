"""How good the codec is: measurements, summaries and a report. The command: evaluate.py."""
