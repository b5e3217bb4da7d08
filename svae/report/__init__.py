"""The report: one self-contained HTML page with all that a study found.

numbers   numbers that know their files and keys
study     the runs as the report reads them
answer    the answer in words, and the warnings
tables    the tables
pictures  the pictures, embedded, with their captions
page      the page
"""
