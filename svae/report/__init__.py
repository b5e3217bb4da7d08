"""The report: one self-contained HTML page with all that a study found.

numbers   numbers that know their files and keys
study     the runs as the report reads them
answer    the answer in words, and the warnings
tables    the tables
captions  the embedded pictures, with headings, captions and alternative texts
draw_*    the figures
png       saving them
page      the page
"""
