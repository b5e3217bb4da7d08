"""The report: one self-contained HTML page with all that a study found.

numbers   numbers that know their files and keys
study     the runs as the report reads them
answer    the answer in words, and the warnings
tables    the tables
pictures  the pictures, embedded, with their captions
page      the page
"""

from svae.report.page import commit_of, write
from svae.report.study import Files

__all__ = ["Files", "commit_of", "write"]
