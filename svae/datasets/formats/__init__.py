"""Reading untrusted files: archives, LMDB, MATLAB and pickle files, encoded images."""
