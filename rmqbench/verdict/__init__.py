"""The verdict: evidence, the rules by which it is judged, and the directory that holds it all."""
