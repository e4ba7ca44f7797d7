"""What is done to the regions at T_c."""
