"""The report: one self-contained HTML page with all that a study found.

numbers    numbers that know their files and keys
study      the runs as the report reads them
answer     the answer in words; warning_list: the warnings
*tables    the tables: of scores, of differences between variants, and the others
intervals  differences between variants: their errors, and what is established
log_ratios what follows from rate and distortion of all runs
captions   the embedded pictures, with headings, captions and alternative texts
draw_*     the figures
png        saving them
page       the page
"""
