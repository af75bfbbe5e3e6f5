"""The command line of the course, `python -m common.course`; nothing else imports it."""
