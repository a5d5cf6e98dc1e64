"""Figures become files, and files a written report; notebooks are run."""
