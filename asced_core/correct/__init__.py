"""The correction of detected regions at T_c."""
