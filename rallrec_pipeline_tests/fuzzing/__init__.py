"""What reads input from outside, and inputs that are nearly right: whatever comes, it ends well or in one line."""
