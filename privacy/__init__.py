"""What a message gives away, measured: attackers that read serialised messages, judges, reports and a gate.

Run it as `python -m privacy`. Nothing else imports this package.
"""
