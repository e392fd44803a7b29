"""Data sets on disk in, `Clip`s out, and back: readers, one file a format; your own videos; is a data set whole?"""
