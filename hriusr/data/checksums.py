"""Checksums of known benchmark pictures; what is hashed, and how, stands in verify.py.

Set5 HR and its official LR (each made from HR by matlab_resize, difference 0); Urban100 HR cropped to multiples of
4, as super-resolution benchmarks use it. A picture's entry is its name and the first 16 digits of its hash.
"""

from typing import NamedTuple


class KnownSet(NamedTuple):
    """Hashes of a set."""

    sha256: str
    """Of the whole set."""
    pictures: str
    """Name and first 16 digits of the hash, in turn, between blanks."""


KNOWN_SETS = {
    "set5/HR": KnownSet(
        "041b3545e41f7c6a8c07cc77d2ab06eaff5ca798fb715dff0bd63e269c829338",
        """
        baby 486b236259df28f9  bird 341fb5df0a065c4d  butterfly eb4598ed65046af2  head 3b1b44c3ffb351b4
        woman a1d050e245dffe5e
        """,
    ),
    "set5/X2": KnownSet(
        "5dd25171442316ae7da70e881c7b5e26c72e4e6c71c7ec37ff7e2d7ceedccbdb",
        """
        babyx2 a345f844c5354430  birdx2 b95b571e0584e786  butterflyx2 6d864f4f67b3543b  headx2 8d144e9b19fe4791
        womanx2 81b8ca6b403880d5
        """,
    ),
    "set5/X3": KnownSet(
        "f56a91ee95eabc0b1dd7be18ca23f036d4a37c6d114b420c5b154cecb67816b5",
        """
        babyx3 355f7f32b23d89b2  birdx3 81a628bc131286cb  butterflyx3 ecb6c4b163f3c099  headx3 a5124987ef38c506
        womanx3 f5b990623b39d8ec
        """,
    ),
    "set5/X4": KnownSet(
        "568eba8d37373545d14788c129fdae256e05a9d753dbf0e8eb18fec8caa4fc66",
        """
        babyx4 a1a400f1f531a14f  birdx4 d6e35794d9e81b0d  butterflyx4 4a7a078be72b1902  headx4 433e161720edc327
        womanx4 ed9725197454209c
        """,
    ),
    "urban100/HR": KnownSet(
        "4ccbfdf53f45f68b29becb671f2f1028e0fb668ca99cf086d4a48dc8802ef3cf",
        """
        img001 e8bf99401f37c487  img002 113f9a40f495eab4  img003 8b4340c1dc98bc9a  img004 d4272897d2b0f720
        img005 b320fd078c6aef45  img006 7812c0ba14c2d626  img007 1fd127d51cccebd9  img008 a18fc9537b0dd41a
        img009 db1a2f58d413b50c  img010 7bd081408b67ac08  img011 63be13ee966c5944  img012 e5d60a17699c2230
        img013 eea9311598c6bdbd  img014 aaad9d5dc81969ed  img015 149e6b54bf2d1143  img016 2c9905b8ef73d87d
        img017 9f90bfe7d71b4d64  img018 f6e6d60fa4d17022  img019 c27fb1ca4c323e7e  img020 a52706dfc07ffa1a
        img021 830eafb32e53aafc  img022 4ff5404630194b50  img023 bdada5c8092835a1  img024 2ca97e74162bd5cc
        img025 795ac9e0cf9efddd  img026 48279e1db68d2a18  img027 df006b9cbed02169  img028 f074aebb787401e2
        img029 adbc6570f0194f2d  img030 33d2e31d26dca532  img031 5479b6d058d39935  img032 ed4070884a143d2e
        img033 cf1def9179c8b83f  img034 79e9a39c48fb45d6  img035 2f306bd1eb89c7a9  img036 c4c05bbaf0ab77ec
        img037 0e1a642c582a695f  img038 b107e92df9121b88  img039 847621203120625b  img040 ad78ee6aad3a5f5e
        img041 d5c93c7b4cfc2ad8  img042 6118a080f848c002  img043 917f05785cd64879  img044 0b44775260fa442f
        img045 4056a94573b04fd8  img046 da1d32c71a33a4c3  img047 26d991aefff568aa  img048 cb7ea291af2dce8b
        img049 6d37ef44f22f822f  img050 9b9226e0a81d1218  img051 273f5dbd23c87c9a  img052 adf9b8b2f5bd9990
        img053 6f2ab6b9c6a4cfc1  img054 3fdf5128f7913b44  img055 9d7c984329e04590  img056 b231d1357fa6b6c5
        img057 02a0bc86fdcb39ce  img058 f2c70dc38d629c96  img059 e24b95090263886f  img060 5bd593e1fb441bce
        img061 41e237f21f78811b  img062 3f8cfcb6285ae3b7  img063 095fbce2c2c8d7c9  img064 72dc33b8fb4d3b9b
        img065 076765ae2b2e80b4  img066 977cfdb3e3cbcde5  img067 a7e60c3454070b14  img068 3fffe5e97a893700
        img069 790a28f237a40947  img070 069ddf078783355f  img071 8c71188bd5607b0e  img072 b730385b13c8ac67
        img073 b6b740d3f5cf37e9  img074 1b7dff3125dee184  img075 75ce65da1a322336  img076 da62bef921b25ed8
        img077 2fee926be7f5cd02  img078 ee6564ac63b16ee6  img079 26f9338ab87d5968  img080 4f2f39e842d5b5f4
        img081 7c2d1c4f2b5a9b53  img082 067536b35bce2d48  img083 dff6c6eb24a4bb0e  img084 f3e90a0c3cfa3321
        img085 4b295167545c61f0  img086 9eb16b8fd4599477  img087 e0ac08ed212fd95b  img088 1e51d0ae5da1a12c
        img089 eb031d597cb46d50  img090 4d1b4d4dcc5cfdef  img091 fc97a2c5759b8a23  img092 091432072357318b
        img093 19cf6fd96b107cf7  img094 14df946d8ec2c3af  img095 43d51a639b4410a1  img096 ca453eee409706fa
        img097 1b0511d48e67933c  img098 5b884e42904613b6  img099 57118c87daba5203  img100 c98a7de2fcc33d23
        """,
    ),
}
